"""Files of a large form go into the model while they still arrive, and nothing of a broken one
stays.
"""

from collections.abc import Generator, Iterator

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service.routes.images import STREAMED_BYTES
from tests.representative import few_of
from tests.service.load import png
from tests.service.process import ServiceProcess
from tests.service.sending import (
    FORM,
    begin,
    form,
    in_the_model,
    wait_for_images,
    wait_for_nothing_held,
)
from vqtok.images import write_image
from vqtok.wire.npy_format import read_array

FAKE = "tests.service.fake_model"
ARRAY = "application/x-npy"
NPY = {**FORM, "Accept": ARRAY}
SIZE = 64
COUNT = 9 * STREAMED_BYTES // (4 * 3 * SIZE**2)


def noise(seed: int, size: int = SIZE) -> bytes:
    """A PNG of about the size of its pixels."""
    return png(seed, size)


@pytest.fixture(scope="module")
def fake() -> Generator[ServiceProcess]:
    flags = ["--runners", "2", "--body-timeout", "5", "--max-body-bytes", "4000000"]
    with ServiceProcess(flags, FAKE) as running:
        yield running.wait_ready()


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [noise(seed) for seed in range(COUNT)]


@pytest.fixture(scope="module")
def body(files: list[bytes]) -> bytes:
    whole = form(files)
    assert len(whole) > 2 * STREAMED_BYTES
    return whole


@pytest.fixture(scope="module")
def expected(fake: ServiceProcess, files: list[bytes]) -> NDArray[np.uint16]:
    """The tokens of the images, sent one by one."""
    with httpx.Client(base_url=fake.url, headers={"Accept": ARRAY}) as client:
        png_type = {"Content-Type": "image/png"}
        alone = [client.post("/v1/encode", content=each, headers=png_type) for each in files]
    return np.concatenate([read_array(each.content) for each in alone])


def _post(
    service: ServiceProcess, body: bytes, query: str = "", route: str = "/v1/encode", **headers: str
) -> httpx.Response:
    url = f"{service.url}{route}{query}"
    return httpx.post(url, content=body, headers={**FORM, **headers}, timeout=30)


def _problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_the_first_images_are_in_the_model_before_the_last_part_has_been_sent(
    fake: ServiceProcess, body: bytes, expected: NDArray[np.uint16]
) -> None:
    before = in_the_model(fake)
    half = len(body) // 2
    connection = begin(fake, body, half, NPY)
    wait_for_images(fake, before + COUNT // 3)
    connection.send(body[half:])
    answer = connection.getresponse()
    assert answer.status == 200
    np.testing.assert_array_equal(read_array(answer.read()), expected)
    connection.close()


@pytest.mark.parametrize("piece", [7_001, 100_000, 1_500_000])
def test_pieces_of_any_size_and_no_announced_length_give_the_same_tokens(
    fake: ServiceProcess, body: bytes, expected: NDArray[np.uint16], piece: int
) -> None:
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), piece):
            yield body[start : start + piece]

    answer = httpx.post(f"{fake.url}/v1/encode", content=pieces(), headers=NPY)
    np.testing.assert_array_equal(read_array(answer.content), expected)


def test_files_of_many_sizes_come_back_in_their_order(fake: ServiceProcess) -> None:
    sides = [(40 + 8 * (i % 7), 200 - 8 * (i % 5)) for i in range(90)]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 200, (*side, 3)).astype(np.uint8) for side in sides]
    items = _post(fake, form([write_image(each, "png") for each in images])).json()["items"]
    assert [tuple(item["size"]) for item in items] == sides
    url = f"{fake.url}/v1/encode"
    for number in (0, 44, 89):
        alone = httpx.post(
            url, content=write_image(images[number], "png"), headers={"Content-Type": "image/png"}
        )
        assert alone.json()["items"][0] == items[number]


def test_reconstruct_takes_them_too(fake: ServiceProcess, body: bytes, files: list[bytes]) -> None:
    answer = _post(fake, body, route="/v1/reconstruct").json()
    assert len(answer["images"]) == len(answer["quality"]) == COUNT
    few = _post(fake, form(files[-2:]), route="/v1/reconstruct").json()
    assert answer["images"][-2:] == few["images"]
    assert answer["quality"][-2:] == few["quality"]
    picture = _post(fake, body, route="/v1/reconstruct", Accept="image/png")
    assert _problem(picture) == (406, "not_acceptable")
    assert "Several pictures can be sent as" in picture.json()["detail"]


def test_the_shipped_bundle_gives_the_tokens_of_small_requests(
    client: httpx.Client,
) -> None:
    files = [noise(seed, 32) for seed in range(500)]
    assert len(form(files)) > STREAMED_BYTES
    large = client.post("/v1/encode", content=form(files), headers=NPY)
    small = [
        client.post("/v1/encode", content=form(files[i : i + 50]), headers=NPY)
        for i in range(0, len(files), 50)
    ]
    np.testing.assert_array_equal(
        read_array(large.content), np.concatenate([read_array(each.content) for each in small])
    )


def _broken_bodies(files: list[bytes]) -> dict[str, tuple[bytes, str]]:
    whole = form(files)
    other = form(files[:-1])[: -len(b"--x0x--\r\n")] + form(files[-1:], field="mask")
    return {
        "cut short": (whole[:-6], "cut short"),
        "cut in a part": (whole[: len(whole) * 3 // 4], "cut short"),
        "no boundary": (whole[: len(whole) // 2].replace(b"x0x", b"x1x"), "cannot be read"),
        "another field": (other, "'mask'"),
    }


@pytest.mark.parametrize("kind", ["cut short", "cut in a part", "no boundary", "another field"])
@pytest.mark.parametrize("query", ["", "?on_error=item"])
def test_a_broken_body_is_400_and_nothing_of_it_is_kept(
    fake: ServiceProcess, files: list[bytes], kind: str, query: str
) -> None:
    broken, words = _broken_bodies(files)[kind]
    before = httpx.get(f"{fake.url}/v1/codebook/stats").json()
    answer = _post(fake, broken, query)
    assert _problem(answer) == (400, "malformed_body")
    assert words in answer.json()["detail"]
    wait_for_nothing_held(fake)
    assert httpx.get(f"{fake.url}/v1/codebook/stats").json() == before


def test_what_a_caller_who_leaves_has_sent_is_dropped(fake: ServiceProcess, body: bytes) -> None:
    before = httpx.get(f"{fake.url}/v1/codebook/stats").json()
    started = in_the_model(fake)
    connection = begin(fake, body, len(body) // 2, NPY)
    wait_for_images(fake, started + 16)
    connection.close()
    wait_for_nothing_held(fake)
    assert httpx.get(f"{fake.url}/v1/codebook/stats").json() == before


@pytest.mark.slow
def test_a_body_that_stops_is_408_and_one_that_is_too_large_is_413(
    fake: ServiceProcess, body: bytes, files: list[bytes]
) -> None:
    connection = begin(fake, body, len(body) - 10, NPY)
    answer = connection.getresponse()
    assert answer.status == 408
    assert b"body_timeout" in answer.read()
    connection.close()

    def pieces() -> Iterator[bytes]:
        yield form(files * 2)

    too_large = httpx.post(f"{fake.url}/v1/encode", content=pieces(), headers=NPY)
    assert (too_large.status_code, too_large.json()["setting"]) == (413, "max_body_bytes")


POISON = np.zeros((SIZE, SIZE, 3), np.uint8)
POISON[0, 0] = (255, 0, 0)
CUT = noise(3)[:9_000]


@pytest.mark.parametrize(
    ("spoilt", "status", "code"),
    [
        (b"%PDF-1.7 and so on", 415, "unsupported_image"),
        (CUT, 400, "broken_image"),
        (write_image(POISON, "png"), 503, "model_failure"),
    ],
    ids=["no image", "cut", "poison"],
)
@pytest.mark.parametrize("index", [0, 3, COUNT - 2])
def test_an_image_that_fails_is_named_or_fails_alone(
    fake: ServiceProcess,
    files: list[bytes],
    index: int,
    spoilt: bytes,
    status: int,
    code: str,
) -> None:
    some = [*files[:index], spoilt, *files[index + 1 :]]
    answer = _post(fake, form(some))
    assert _problem(answer) == (status, code)
    assert answer.json()["detail"].startswith(f"Image {index}: ")
    items = _post(fake, form(some), "?on_error=item").json()["items"]
    errors = {i: item["error"] for i, item in enumerate(items) if "error" in item}
    assert len(items) == COUNT
    assert list(errors) == [index]
    assert errors[index]["code"] == code
    wait_for_nothing_held(fake)


def test_a_large_file_alone_is_not_numbered(fake: ServiceProcess) -> None:
    whole = noise(1, 720)
    assert len(whole) > STREAMED_BYTES
    assert _post(fake, form([whole])).status_code == 200
    broken = _post(fake, form([whole[:-200_000]]))
    assert _problem(broken) == (400, "broken_image")
    assert not broken.json()["detail"].startswith("Image 0")


LIMITS: list[tuple[list[str], str, str]] = [
    (["--max-items", "130"], "max_items", "or more items"),
    (["--max-request-pixels", "600000", "--max-pixels", "10000"], "max_request_pixels", "or more"),
    (["--max-pixels", "4000"], "max_pixels", "Image 0: "),
    (["--cost", "0.00001", "--max-queue-seconds", "5"], "max_queue_seconds", "about"),
]


@pytest.mark.parametrize(("flags", "setting", "words"), few_of(LIMITS, LIMITS[:2]))
def test_limits_hold_for_what_arrives(
    body: bytes, flags: list[str], setting: str, words: str
) -> None:
    with ServiceProcess(flags, FAKE) as service:
        service.wait_ready()
        answer = _post(service, body)
        assert (answer.status_code, answer.json()["setting"]) == (413, setting)
        assert words in answer.json()["detail"]
        wait_for_nothing_held(service)


@pytest.mark.slow
def test_what_seems_too_much_at_first_is_looked_at_as_a_whole() -> None:
    """A flat picture has many pixels in few bytes, so that the others seem to have as many."""
    flat = write_image(np.zeros((1000, 1000, 3), np.uint8), "png")
    body = form([flat, *(noise(seed) for seed in range(COUNT))])
    with ServiceProcess(["--cost", "0.000001", "--max-queue-seconds", "3"], FAKE) as service:
        service.wait_ready()
        answer = _post(service, body)
        assert answer.status_code == 200
        assert len(answer.json()["items"]) == COUNT + 1
        wait_for_nothing_held(service)


@pytest.mark.slow
def test_a_slow_model_is_not_the_callers_lateness(body: bytes) -> None:
    flags = ["--delay", "0.1", "--batch-pixels", str(4 * SIZE**2), "--body-timeout", "1"]
    with ServiceProcess(flags, FAKE) as service:
        service.wait_ready()
        answer = _post(service, body)
        assert answer.status_code == 200
        assert _milliseconds(answer)["total"] > 2000


def _milliseconds(answer: httpx.Response) -> dict[str, float]:
    stages = (each.split(";dur=") for each in answer.headers["server-timing"].split(", "))
    return {name: float(value) for name, value in stages}


@pytest.mark.slow
def test_memory_grows_by_what_is_at_work_and_not_by_the_body() -> None:
    files = [noise(seed, 400) for seed in range(8)] * 12
    body = form(files)
    assert len(body) > 40 * STREAMED_BYTES
    flags = ["--delay", "0.02", "--batch-pixels", "160000"]
    with ServiceProcess(flags, FAKE) as service:
        service.wait_ready()
        assert _post(service, form(files[:10]), Accept=ARRAY).status_code == 200
        before = service.peak_memory()
        assert _post(service, body, Accept=ARRAY).status_code == 200
        grown = service.peak_memory() - before
    assert grown < 0.75 * len(body)
