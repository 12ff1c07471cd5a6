"""Same pixels, same tokens: whatever the wire format, the batch, the neighbours, or the process."""

import asyncio
import base64
import io
import signal
import zipfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.representative import few_of
from tests.service.process import ServiceProcess, counter
from tests.vqtok.tiny_bundle import smooth_images
from vqtok.bundle import Bundle
from vqtok.images import write_image
from vqtok.local import LocalTokenizer
from vqtok.runtime.onnx import open_engine
from vqtok.wire.npy_format import read_array, write_array

NPY = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
SIDES = [(32, 32), (33, 47), (1, 1), (8, 64), (31, 9)]


@pytest.fixture(scope="module", params=few_of(["2", "1"], ["2"]), ids=["in threads", "on the loop"])
def service(bundle: Path, request: pytest.FixtureRequest) -> Generator[ServiceProcess]:
    """With one thread the event loop runs what is small."""
    flags = ["--bundle", str(bundle), "--device", "cpu", "--threads", request.param]
    with ServiceProcess(flags) as running:
        yield running.wait_ready()


@pytest.fixture(scope="module")
def tokenizer(bundle: Path) -> Generator[LocalTokenizer]:
    opened = Bundle.open(bundle)
    engine = open_engine(opened, "cpu")
    with LocalTokenizer(opened, engine, tile_pixels=10**9) as local:
        yield local


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return smooth_images(100, 32, 32, seed=5)


def _tokens(answer: httpx.Response) -> list[NDArray[Any]]:
    assert answer.status_code == 200, answer.text
    return [np.array(item["tokens"]) for item in answer.json()["items"]]


def _png(pixels: NDArray[np.uint8]) -> bytes:
    return write_image(pixels)


def _multipart(pixels: list[NDArray[np.uint8]]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (f"{index}.png", _png(each))) for index, each in enumerate(pixels)]


def test_every_wire_format_gives_the_in_process_tokens(
    client: httpx.Client, tokenizer: LocalTokenizer
) -> None:
    for height, width in SIDES:
        (pixels,) = smooth_images(1, height, width)
        (expected,) = tokenizer.encode([pixels]).images
        png = _png(pixels)
        raw = client.post("/v1/encode", content=png, headers={"Content-Type": "image/png"})
        form = client.post("/v1/encode", files=_multipart([pixels]))
        body = {"images": [base64.b64encode(png).decode()]}
        as_json = client.post("/v1/encode", json=body)
        array = client.post("/v1/encode", content=write_array(pixels[None]), headers=NPY)
        assert array.headers["vqtok-image-size"] == f"{height}x{width}"
        for tokens in (
            *_tokens(raw),
            *_tokens(form),
            *_tokens(as_json),
            *read_array(array.content),
        ):
            np.testing.assert_array_equal(tokens, expected.tokens)


def test_a_batch_of_100_is_its_100_singles_and_the_in_process_tokens(
    client: httpx.Client, tokenizer: LocalTokenizer, images: NDArray[np.uint8]
) -> None:
    expected = [item.tokens for item in tokenizer.encode(list(images)).images]
    batch = client.post("/v1/encode", content=write_array(images), headers=NPY)
    np.testing.assert_array_equal(read_array(batch.content), expected)
    np.testing.assert_array_equal(
        _tokens(client.post("/v1/encode", files=_multipart(list(images)))), expected
    )
    for pixels, tokens in zip(images, expected, strict=True):
        single = client.post("/v1/encode", content=write_array(pixels[None]), headers=NPY)
        np.testing.assert_array_equal(read_array(single.content)[0], tokens)


def test_images_of_many_sizes_in_one_request_come_back_in_order(
    client: httpx.Client, tokenizer: LocalTokenizer
) -> None:
    pixels = [smooth_images(1, *SIDES[seed % 5], seed=seed)[0] for seed in range(40)]
    answer = client.post("/v1/encode", files=_multipart(pixels))
    for tokens, expected in zip(_tokens(answer), tokenizer.encode(pixels).images, strict=True):
        np.testing.assert_array_equal(tokens, expected.tokens)
    assert [item["size"] for item in answer.json()["items"]] == [list(p.shape[:2]) for p in pixels]


def test_strict_gives_the_same_tokens_alone_and_in_tiles(
    client: httpx.Client, images: NDArray[np.uint8]
) -> None:
    (large,) = smooth_images(1, 500, 700)
    for body in (write_array(images[:20]), write_array(large[None])):
        plain, strict = (
            client.post(f"/v1/encode?strict={flag}", content=body, headers=NPY)
            for flag in ("false", "true")
        )
        assert plain.content == strict.content


def test_an_image_that_runs_in_tiles_gives_the_tokens_of_the_whole(
    client: httpx.Client, tokenizer: LocalTokenizer
) -> None:
    (pixels,) = smooth_images(1, 700, 900)
    answer = client.post("/v1/encode", content=write_array(pixels[None]), headers=NPY)
    (expected,) = tokenizer.encode([pixels]).images
    np.testing.assert_array_equal(read_array(answer.content)[0], expected.tokens)
    back = client.post("/v1/decode", content=answer.content, headers=NPY)
    (whole,) = tokenizer.decode([expected])
    np.testing.assert_array_equal(read_array(back.content)[0], whole)


def test_decode_of_encode_is_reconstruct(client: httpx.Client, images: NDArray[np.uint8]) -> None:
    body = write_array(images[:20])
    rebuilt = client.post("/v1/reconstruct", content=body, headers=NPY)
    tokens = client.post("/v1/encode", content=body, headers=NPY)
    decoded = client.post("/v1/decode", content=tokens.content, headers=NPY)
    np.testing.assert_array_equal(read_array(decoded.content), read_array(rebuilt.content))
    assert len(rebuilt.headers["vqtok-psnr"].split(",")) == 20


def test_reconstruct_says_how_near_it_comes(
    client: httpx.Client, images: NDArray[np.uint8]
) -> None:
    answer = client.post("/v1/reconstruct", content=write_array(images[:3]), headers={
        "Content-Type": "application/x-npy"
    }).json()  # fmt: skip
    for pixels, encoded, figures in zip(images, answer["images"], answer["quality"], strict=False):
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
        difference = (picture.astype(float) - pixels) / 255
        assert figures["mse"] == pytest.approx((difference**2).mean())
        assert figures["psnr"] == pytest.approx(-10 * np.log10(figures["mse"]))


def test_tokens_decode_alike_from_json_npy_and_in_every_lossless_format(
    client: httpx.Client, tokenizer: LocalTokenizer
) -> None:
    (pixels,) = smooth_images(1, 33, 47)
    answer = client.post("/v1/encode", files=_multipart([pixels])).json()
    (expected,) = tokenizer.decode(tokenizer.encode([pixels]))
    assert expected.shape == pixels.shape
    flat = client.post("/v1/encode?layout=flat&detail=margin", files=_multipart([pixels])).json()
    assert len(flat["items"][0]["margins"]) == len(flat["items"][0]["tokens"])
    for body in (answer, flat, {"items": answer["items"]}):
        png = client.post("/v1/decode", json=body)
        assert png.headers["content-type"] == "image/png"
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png.content))), expected)
        archive = client.post("/v1/decode", json=body, headers={"Accept": "application/zip"})
        with zipfile.ZipFile(io.BytesIO(archive.content)) as files:
            assert files.read("00000.png") == png.content
        nested = client.post("/v1/decode", json=body, headers={"Accept": "application/json"})
        assert base64.b64decode(nested.json()["images"][0]) == png.content


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int32", "int64"])
def test_every_dtype_and_layout_carries_the_same_tokens(
    client: httpx.Client, images: NDArray[np.uint8], dtype: str
) -> None:
    body = write_array(images[:3])
    plain = read_array(client.post("/v1/encode", content=body, headers=NPY).content)
    url = f"/v1/encode?dtype={dtype}&layout=flat"
    flat = read_array(client.post(url, content=body, headers=NPY).content)
    assert flat.dtype == dtype
    np.testing.assert_array_equal(flat.reshape(plain.shape), plain)
    grid = "x".join(map(str, plain.shape[1:]))
    decoded = [
        client.post(path, content=write_array(tokens), headers=NPY).content
        for path, tokens in (("/v1/decode", plain), (f"/v1/decode?grid={grid}", flat))
    ]
    assert decoded[0] == decoded[1]


def test_sample_i_depends_on_the_seed_and_i_only(client: httpx.Client, bundle: Path) -> None:
    prior = Bundle.open(bundle).manifest.prior
    many = client.post("/v1/sample", json={"n": 20, "seed": 11}, headers=NPY | JSON_BODY)
    few = client.post("/v1/sample", json={"n": 3, "seed": 11}, headers=NPY | JSON_BODY)
    assert few.headers["vqtok-seed"] == "11"
    assert few.headers["vqtok-prior"] == ("position-table" if prior is None else prior.kind)
    assert len(few.headers["vqtok-bits"].split(",")) == 3
    np.testing.assert_array_equal(read_array(many.content)[:3], read_array(few.content))
    picture = client.post("/v1/sample", json={"seed": 11})
    alone = client.post(
        "/v1/decode", content=write_array(read_array(few.content)[:1]), headers=NPY | ANY
    )
    assert picture.headers["content-type"] == "image/png"
    assert picture.content == alone.content


JSON_BODY = {"Content-Type": "application/json"}
ANY = {"Accept": "*/*"}


def test_the_codebook_is_the_bundles(client: httpx.Client, tokenizer: LocalTokenizer) -> None:
    np.testing.assert_array_equal(
        read_array(client.get("/v1/codebook").content), tokenizer.codebook()
    )


def test_64_clients_at_once_each_get_the_tokens_of_their_own_image(
    service: ServiceProcess, tokenizer: LocalTokenizer
) -> None:
    images = smooth_images(64 * 4, 32, 32, seed=77)
    expected = [item.tokens for item in tokenizer.encode(list(images)).images]

    async def one_client(client: httpx.AsyncClient, first: int, sent: asyncio.Semaphore) -> None:
        async def trace(event: str, info: object) -> None:
            if event == "http11.send_request_body.complete":
                sent.release()

        for index in range(first, first + 4):
            answer = await client.post(
                "/v1/encode",
                content=_png(images[index]),
                headers={"Content-Type": "image/png"},
                extensions={"trace": trace},
            )
            assert answer.status_code == 200, answer.text
            np.testing.assert_array_equal(answer.json()["items"][0]["tokens"], expected[index])

    async def all_clients() -> None:
        sent = asyncio.Semaphore(0)
        limits = httpx.Limits(max_connections=64)
        async with (
            httpx.AsyncClient(base_url=service.url, timeout=60, limits=limits) as client,
            asyncio.TaskGroup() as group,
        ):
            # All have asked before any is answered, on however busy a machine.
            service.signal(signal.SIGSTOP)
            try:
                for number in range(64):
                    group.create_task(one_client(client, 4 * number, sent))
                for _ in range(64):
                    await sent.acquire()
            finally:
                service.signal(signal.SIGCONT)

    before = httpx.get(f"{service.url}/metrics").text
    asyncio.run(all_clients())
    after = httpx.get(f"{service.url}/metrics").text
    items = counter(after, "vqtok_batch_size_sum") - counter(before, "vqtok_batch_size_sum")
    batches = counter(after, "vqtok_batch_size_count") - counter(before, "vqtok_batch_size_count")
    assert items == 64 * 4
    assert items / batches > 1, "nothing was batched"
