"""The manifest: what it takes, what it ignores, what it refuses and in which words."""

import json
from typing import Any

import pytest

from vqtok.errors import BundleCorrupt, BundleUnsupported
from vqtok.manifest import Manifest
from vqtok.runtime.fake import fake_manifest


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(fake_manifest().to_json()), **fields}).encode()


def without(field: str) -> bytes:
    document = json.loads(fake_manifest().to_json())
    del document[field]
    return json.dumps(document).encode()


def test_a_manifest_reads_back_as_it_was_written() -> None:
    manifest = fake_manifest(metrics={"mse": 0.003}, memory={"encoder_bytes_per_pixel": 441.0})
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_ids_come_back_with_their_short_form() -> None:
    manifest = Manifest.from_json(fake_manifest().to_json())
    assert manifest.codebook_id.short == "c0" * 6
    assert manifest.tokenizer_id.short == "70" * 6


def test_a_later_minor_version_reads_and_its_unknown_fields_are_left_out() -> None:
    manifest = Manifest.from_json(changed(schema_version="1.9", colour="blue"))
    assert manifest.schema_version == "1.9"
    assert b"colour" not in manifest.to_json()


@pytest.mark.parametrize("version", ["2.0", "0.9", "10.0", ""])
def test_another_major_version_is_unsupported(version: str) -> None:
    with pytest.raises(BundleUnsupported, match=r"manifest\.json has schema version"):
        Manifest.from_json(changed(schema_version=version))


def test_a_newer_schema_is_named_before_fields_it_may_have_changed() -> None:
    with pytest.raises(BundleUnsupported):
        Manifest.from_json(b'{"schema_version": "2.0"}')


def test_an_unknown_requirement_is_unsupported() -> None:
    with pytest.raises(BundleUnsupported, match="requires telepathy"):
        Manifest.from_json(changed(requires={"telepathy": True}))


def test_a_network_that_is_not_tileable_says_so() -> None:
    assert fake_manifest().tileable
    assert not Manifest.from_json(changed(requires={"tileable": False})).tileable


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"a": NaN}', b"\xff\xfe"])
def test_what_is_no_json_object_is_corrupt(data: bytes) -> None:
    with pytest.raises(BundleCorrupt, match=r"manifest\.json"):
        Manifest.from_json(data)


OPTIONAL = {"requires", "memory", "digests", "parity", "provenance", "metrics"}


@pytest.mark.parametrize("field", sorted(set(json.loads(fake_manifest().to_json())) - OPTIONAL))
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(BundleCorrupt, match=rf"lacks the field {field}\b"):
        Manifest.from_json(without(field))


@pytest.mark.parametrize("field", sorted(OPTIONAL))
def test_an_optional_field_may_be_missing(field: str) -> None:
    Manifest.from_json(without(field))


IMAGE = {"channels": 3, "factor": 4, "native_size": [16, 16]}
CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"depth": 2}, "grid that does not fit"),
    ({"grid": [4, 5]}, "grid that does not fit"),
    ({"grid": [4.5, 4]}, "field grid"),
    ({"grid": "4x4"}, "field grid"),
    ({"depth": 0}, "field depth"),
    ({"depth": True}, "field depth"),
    ({"codebook_size": 1}, "field codebook_size"),
    ({"encoder_halo": 3}, "encoder_halo"),
    ({"outputs": ["tokens"]}, "outputs"),
    ({"outputs": ["tokens", "margins", "tokens"]}, "outputs"),
    ({"image": {**IMAGE, "channels": 1}}, "image.channels"),
    ({"image": {**IMAGE, "native_size": [16]}}, "native_size"),
    ({"image": {**IMAGE, "factor": "4"}}, "image.factor"),
    ({"image": {**IMAGE, "factor": 5}}, "native size"),
    ({"name": "../evil"}, "name"),
    ({"name": "a\r\nb"}, "name"),
    ({"codebook_id": "abc"}, "codebook_id"),
    ({"tokenizer_id": "Z" * 64}, "tokenizer_id"),
    ({"requires": []}, "requires"),
    ({"requires": {"tileable": "no"}}, "tileable"),
    ({"digests": {"../x": "0" * 64}}, "plain file name"),
    ({"digests": {"x": "0"}}, "digest of x"),
    ({"memory": {"encoder_bytes_per_pixel": -1}}, "memory"),
]


@pytest.mark.parametrize(("fields", "reason"), CONTRADICTIONS)
def test_a_contradiction_is_refused_naming_the_field(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(BundleCorrupt, match=reason):
        Manifest.from_json(changed(**fields))


def test_the_grid_of_an_image_keeps_the_depth() -> None:
    manifest = fake_manifest(depth=3, grid=(4, 4, 3))
    assert manifest.grid_of(32, 8) == (8, 2, 3)
