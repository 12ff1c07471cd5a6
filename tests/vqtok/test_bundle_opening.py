"""Opening a bundle: a file that is missing or has changed, or a schema of another version, is
refused and named.
"""

from pathlib import Path

import pytest

from tests.vqtok.spoilt_bundle import change_manifest
from tests.vqtok.tiny_bundle import write_tiny_bundle
from vqtok.bundle import Bundle
from vqtok.errors import BundleCorrupt, BundleError, BundleUnsupported

FILES = ("encoder.onnx", "decoder.onnx", "codebook.npy", "reference.npz", "card.md")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path)


def test_an_opened_bundle_holds_codebook_and_reference(folder: Path) -> None:
    bundle = Bundle.open(folder)
    assert bundle.codebook.shape == (bundle.manifest.codebook_size, bundle.manifest.code_dim)
    assert bundle.reference.usage.sum() == 64 * 64
    assert bundle.read("card.md").startswith(b"# tiny")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_refused_naming_the_file(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleCorrupt, match=rf"{name} is not the file .* sha256 differs"):
        Bundle.open(folder)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleCorrupt, match=f"{name} is missing"):
        Bundle.open(folder)


def test_a_folder_that_does_not_exist_is_a_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json is missing from the bundle"):
        Bundle.open(tmp_path / "nowhere")


def test_a_folder_in_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "codebook.npy").unlink()
    (folder / "codebook.npy").mkdir()
    with pytest.raises(BundleCorrupt, match=r"codebook\.npy cannot be read"):
        Bundle.open(folder)


def test_a_required_file_without_digest_is_refused(folder: Path) -> None:
    change_manifest(folder, lambda d: d["digests"].pop("encoder.onnx"))
    with pytest.raises(BundleCorrupt, match=r"no digest of encoder\.onnx"):
        Bundle.open(folder)


def test_every_byte_of_the_manifest_may_flip_without_another_kind_of_error(folder: Path) -> None:
    """Flips inside a text may go unnoticed; what is noticed is a BundleError, nothing else."""
    original = (folder / "manifest.json").read_bytes()
    refused = 0
    for position in range(0, len(original), 7):
        spoilt = bytearray(original)
        spoilt[position] ^= 0x10
        (folder / "manifest.json").write_bytes(spoilt)
        try:
            Bundle.open(folder)
        except BundleError:
            refused += 1
    assert refused > len(original) / 7 / 2


def test_a_newer_schema_and_an_unknown_requirement_are_unsupported(folder: Path) -> None:
    change_manifest(folder, lambda d: d.update(requires={"mirrors": 2}))
    with pytest.raises(BundleUnsupported, match="mirrors"):
        Bundle.open(folder)
    change_manifest(folder, lambda d: d.update(schema_version="2.0"))
    with pytest.raises(BundleUnsupported, match=r"2\.0"):
        Bundle.open(folder)
