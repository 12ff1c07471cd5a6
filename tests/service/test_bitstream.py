"""Tokens as bitstreams over HTTP: the same tokens as in JSON, and back to the same pictures."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.service.process import ServiceProcess
from tests.vqtok.tiny_bundle import smooth_images, write_tiny_bundle
from vqtok.bitstream import CODERS, BitstreamReader, CoderTables, Coding, bits_per_image
from vqtok.bundle import Bundle
from vqtok.images import write_image
from vqtok.tokenizer import Tokenizer
from vqtok.wire import json_format
from vqtok.wire.npy_format import read_array, write_array

STREAM = "application/vnd.vqtok.tokens"
JSON, NPY, ZIP = "application/json", "application/x-npy", "application/zip"
SIZES = [(32, 32), (32, 32), (45, 60), (32, 32), (7, 9)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle with coder tables."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def tables(bundle: Path) -> CoderTables:
    found = CoderTables.of(Bundle.open(bundle).reference)
    assert found is not None
    return found


def _files() -> list[tuple[str, tuple[str, bytes]]]:
    pictures = [smooth_images(1, *size, seed=i)[0] for i, size in enumerate(SIZES)]
    return [("images", (f"{i}", write_image(each))) for i, each in enumerate(pictures)]


def _encode(client: httpx.Client, accept: str, **params: str) -> httpx.Response:
    answer = client.post("/v1/encode", files=_files(), params=params, headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == accept
    return answer


def test_a_bitstream_carries_the_tokens_sizes_and_ids_of_json(
    client: httpx.Client, tables: CoderTables
) -> None:
    expected = json_format.decode_tokens(_encode(client, JSON).content)
    for coder in ("auto", "packed", "static", "context"):
        reader = BitstreamReader(_encode(client, STREAM, coder=coder).content, tables=tables)
        images = list(reader.images())
        assert [item.size for item in images] == SIZES
        for got, sent in zip(images, expected.images, strict=True):
            assert np.array_equal(got.tokens, sent.tokens)
        assert reader.header.codebook_id == expected.codebook_id
        assert reader.header.tokenizer_id == expected.tokenizer_id
        assert (reader.header.model, reader.header.preprocess) == (expected.model, "pad")


def test_a_bitstream_sent_back_gives_the_pictures_of_json(client: httpx.Client) -> None:
    bodies = {media_type: _encode(client, media_type).content for media_type in (JSON, STREAM)}
    pictures = [
        client.post("/v1/decode", content=body, headers={"Content-Type": kind, "Accept": ZIP})
        for kind, body in bodies.items()
    ]
    assert [answer.status_code for answer in pictures] == [200, 200]
    assert pictures[0].content == pictures[1].content


def test_position_is_refused_off_the_native_grid_and_taken_on_it(
    client: httpx.Client, tables: CoderTables
) -> None:
    pixels = smooth_images(5, 32, 32)
    headers = {"Content-Type": NPY, "Accept": STREAM}
    body, params = write_array(pixels), {"coder": "position"}
    answer = client.post("/v1/encode", content=body, params=params, headers=headers)
    assert len(list(BitstreamReader(answer.content, tables=tables).images())) == 5
    answer = client.post("/v1/encode", files=_files(), params=params, headers={"Accept": STREAM})
    assert answer.status_code == 422
    assert "the grid 12x15 is not the native one, 8x8" in answer.json()["detail"]
    assert "coder=auto" in answer.json()["detail"]


def test_other_tables_are_a_conflict_that_names_both(
    client: httpx.Client, tables: CoderTables
) -> None:
    stream = _encode(client, STREAM, coder="static").content
    header = BitstreamReader(stream).header
    rest = stream.removeprefix(header.to_bytes())
    changed = replace(header, table_ids={CODERS["static"].number: "00" * 8}).to_bytes()
    answer = client.post("/v1/decode", content=changed + rest, headers={"Content-Type": STREAM})
    assert (answer.status_code, answer.json()["code"]) == (409, "table_mismatch")
    assert tables.ids["static"] in answer.json()["detail"]
    assert "0000000000000000" in answer.json()["detail"]


def test_detail_bits_says_what_each_coder_takes(
    client: httpx.Client, tables: CoderTables, bundle: Path
) -> None:
    items = _encode(client, JSON, detail="bits").json()["items"]
    coding = Coding(32, 1, tables)
    grids = [np.array(item["tokens"]) for item in items]
    for item, rates in zip(items, bits_per_image(grids, coding), strict=True):
        assert set(item["rates"]) == set(rates)
        for name, rate in rates.items():
            assert item["rates"][name].get("bits") == pytest.approx(rate.bits)
            assert item["rates"][name].get("reason") == rate.reason
    assert items[0]["rates"]["fixed"] == {"bits": 64 * 5}
    assert items[2]["rates"]["position"]["bits"] is None
    assert items[2]["rates"]["prior"]["reason"] == "the bundle holds no learned prior"
    with Tokenizer.open(bundle, "cpu") as tokenizer:
        assert tokenizer.bits_per_image(grids) == bits_per_image(grids, coding)


def test_an_answer_with_rates_may_be_sent_back(client: httpx.Client) -> None:
    body = _encode(client, JSON, detail="bits").content
    headers = {"Content-Type": JSON, "Accept": ZIP}
    assert client.post("/v1/decode", content=body, headers=headers).status_code == 200


def test_a_failed_item_needs_json(client: httpx.Client) -> None:
    answer = client.post(
        "/v1/encode", files=_files(), params={"on_error": "item"}, headers={"Accept": STREAM}
    )
    assert answer.status_code == 406


@pytest.fixture(scope="module")
def untabled(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[httpx.Client]:
    """The fake model, which has no coder tables."""
    with ServiceProcess([], "tests.service.fake_model") as running:
        running.wait_ready()
        with httpx.Client(base_url=running.url, timeout=30) as opened:
            yield opened


def test_without_tables_a_bitstream_is_packed(untabled: httpx.Client) -> None:
    headers = {"Content-Type": NPY, "Accept": STREAM}
    pixels = smooth_images(2, 16, 16)
    answer = untabled.post("/v1/encode", content=write_array(pixels), headers=headers)
    reader = BitstreamReader(answer.content)
    assert [chunk.header.coder for chunk in reader.chunks()] == [0]
    headers = {"Content-Type": STREAM, "Accept": NPY}
    back = untabled.post("/v1/decode", content=answer.content, headers=headers)
    assert read_array(back.content).shape == pixels.shape
    headers = {"Content-Type": NPY, "Accept": JSON}
    answer = untabled.post("/v1/encode?detail=bits", content=write_array(pixels), headers=headers)
    (rates, _) = [item["rates"] for item in answer.json()["items"]]
    assert rates["fixed"] == {"bits": 128}
    assert rates["context"] == {"bits": None, "reason": "the bundle holds no coder tables"}
