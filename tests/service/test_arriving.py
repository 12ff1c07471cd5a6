"""Large arrays go into the model while they still arrive, and nothing of a broken one stays."""

from collections.abc import Generator, Iterator

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service.routes.images import STREAMED_BYTES
from tests.service.process import ServiceProcess
from tests.service.sending import begin, in_the_model, wait_for_images, wait_for_nothing_held
from vqtok.wire.npy_format import read_array, write_array

FAKE = "tests.service.fake_model"
NPY = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
SIZE = 64
COUNT = 2 * STREAMED_BYTES // (3 * SIZE**2)


@pytest.fixture(scope="module")
def service() -> Generator[ServiceProcess]:
    flags = ["--runners", "2", "--body-timeout", "5", "--max-body-bytes", "4000000"]
    with ServiceProcess(flags, FAKE) as running:
        yield running.wait_ready()


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 200, (COUNT, SIZE, SIZE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def expected(service: ServiceProcess, images: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The tokens of the images, sent one by one."""
    with httpx.Client(base_url=service.url) as client:
        alone = [
            read_array(client.post("/v1/encode", content=write_array(i[None]), headers=NPY).content)
            for i in images
        ]
    return np.concatenate(alone)


def test_the_first_images_are_in_the_model_before_the_last_have_arrived(
    service: ServiceProcess, images: NDArray[np.uint8], expected: NDArray[np.uint16]
) -> None:
    body = write_array(images)
    before = in_the_model(service)
    connection = begin(service, body, len(body) // 2, NPY)
    wait_for_images(service, before + COUNT // 2 - 16)
    connection.send(body[len(body) // 2 :])
    answer = connection.getresponse()
    assert answer.status == 200
    np.testing.assert_array_equal(read_array(answer.read()), expected)
    connection.close()


@pytest.mark.parametrize("piece", [7_001, 100_000, 1_500_000])
def test_pieces_of_any_size_give_the_same_tokens(
    service: ServiceProcess, images: NDArray[np.uint8], expected: NDArray[np.uint16], piece: int
) -> None:
    body = write_array(images)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), piece):
            yield body[start : start + piece]

    answer = httpx.post(f"{service.url}/v1/encode", content=pieces(), headers=NPY)
    np.testing.assert_array_equal(read_array(answer.content), expected)


def test_reconstruct_and_the_cache_take_them_too(images: NDArray[np.uint8]) -> None:
    with ServiceProcess(["--cache-bytes", "10000000"], FAKE) as service:
        service.wait_ready()
        url, body = f"{service.url}/v1/reconstruct", write_array(images)
        first, again = (httpx.post(url, content=body, headers=NPY) for _ in range(2))
        assert first.content == again.content
        assert read_array(first.content).shape == images.shape
        assert again.headers["cache-status"] == "vqtok; hit"


def test_what_a_caller_who_leaves_has_sent_is_dropped(
    service: ServiceProcess, images: NDArray[np.uint8]
) -> None:
    body = write_array(images)
    before = httpx.get(f"{service.url}/v1/codebook/stats").json()["native"]
    started = in_the_model(service)
    connection = begin(service, body, len(body) // 2, NPY)
    wait_for_images(service, started + 16)
    connection.close()
    wait_for_nothing_held(service)
    assert httpx.get(f"{service.url}/v1/codebook/stats").json()["native"] == before


@pytest.mark.parametrize("change", [-1, 1, 50_000])
def test_a_body_of_another_length_is_400(
    service: ServiceProcess, images: NDArray[np.uint8], change: int
) -> None:
    body = write_array(images)
    body = body[:change] if change < 0 else body + bytes(change)

    def pieces() -> Iterator[bytes]:
        yield body

    for content in (body, pieces()):
        answer = httpx.post(f"{service.url}/v1/encode", content=content, headers=NPY)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")
        assert "arrived" in answer.json()["detail"]


def test_a_body_that_stops_is_408_and_one_that_is_too_large_is_413(
    service: ServiceProcess, images: NDArray[np.uint8]
) -> None:
    body = write_array(images)
    connection = begin(service, body, len(body) - 10, NPY)
    assert connection.getresponse().status == 408
    connection.close()
    large = write_array(np.concatenate([images] * 3))

    def pieces() -> Iterator[bytes]:
        yield large

    answer = httpx.post(f"{service.url}/v1/encode", content=pieces(), headers=NPY)
    assert (answer.status_code, answer.json()["setting"]) == (413, "max_body_bytes")


def test_an_image_that_fails_in_the_model_ends_it_or_fails_alone(
    service: ServiceProcess, images: NDArray[np.uint8]
) -> None:
    poisoned = images.copy()
    poisoned[100, 0, 0] = (255, 0, 0)
    body = write_array(poisoned)
    failed = httpx.post(f"{service.url}/v1/encode", content=body, headers=NPY)
    assert (failed.status_code, failed.json()["code"]) == (503, "model_failure")
    assert "Image 100" in failed.json()["detail"]
    headers = {"Content-Type": "application/x-npy"}
    items = httpx.post(f"{service.url}/v1/encode?on_error=item", content=body, headers=headers)
    errors = [index for index, item in enumerate(items.json()["items"]) if "error" in item]
    assert errors == [100]
