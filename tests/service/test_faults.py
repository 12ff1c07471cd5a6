"""Callers who leave, are slow or in a hurry, and items that fail: nobody else notices, and what
was reserved comes back.
"""

import contextlib
import http.client
import socket
import time
from collections.abc import Generator

import httpx
import numpy as np
import pytest

from tests.representative import few_of
from tests.service.fake_model import POISON
from tests.service.load import png
from tests.service.process import ServiceProcess, counter
from vqtok.images import write_image
from vqtok.runtime.fake import FakeEngine, fake_manifest
from vqtok.wire.npy_format import write_array

PNG = {"Content-Type": "image/png"}
DELAY = 0.5


@pytest.fixture(scope="module", params=few_of(["1", "300"], ["300"]), ids=["in steps", "whole"])
def service(request: pytest.FixtureRequest) -> Generator[ServiceProcess]:
    """One image a batch; an image of 16 x 16 is loaded and finished in the pool, or by a runner."""
    flags = ["--delay", str(DELAY), "--body-timeout", "0.5", "--batch-pixels", request.param]
    with ServiceProcess(flags, "tests.service.fake_model") as running:
        yield running.wait_ready()


@pytest.fixture(autouse=True)
def _nothing_stays_reserved(service: ServiceProcess) -> Generator[None]:
    yield
    names = ("vqtok_requests_in_work", "vqtok_body_bytes_held", "vqtok_work_seconds")
    ends_at = time.monotonic() + 10
    while any(_metric(service, name) for name in names):
        assert time.monotonic() < ends_at, _metrics(service)
        time.sleep(0.02)


def _metrics(service: ServiceProcess) -> str:
    # httpx takes longer to begin than the model may take here.
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


def _metric(service: ServiceProcess, name: str, **labels: str) -> float:
    return counter(_metrics(service), name, **labels)


def _begin_post(service: ServiceProcess, body: bytes, announced: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", service.port))
    head = (
        "POST /v1/encode HTTP/1.1\r\nHost: test\r\nContent-Type: image/png\r\n"
        f"Content-Length: {announced}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def _wait_for(service: ServiceProcess, value: float, name: str, **labels: str) -> None:
    ends_at = time.monotonic() + 10
    while (seen := _metric(service, name, **labels)) != value:
        assert time.monotonic() < ends_at, f"{name}: {seen}, not {value}"
        time.sleep(0.02)


def test_callers_who_leave_are_dropped_before_the_model_runs(service: ServiceProcess) -> None:
    left = _metric(service, "vqtok_requests_total", route="/v1/encode", status="499")
    dropped = _metric(service, "vqtok_abandoned_total", reason="disconnect")
    ran = _metric(service, "vqtok_batch_size_sum")
    staying = _begin_post(service, png(0), len(png(0)))
    _wait_for(service, 1, "vqtok_requests_in_work")
    with contextlib.ExitStack() as leaving:
        for seed in range(1, 4):
            leaving.enter_context(_begin_post(service, png(seed), len(png(seed))))
        _wait_for(service, 3, "vqtok_queue_items")
    with staying, http.client.HTTPResponse(staying) as response:
        response.begin()
        assert response.status == 200
    _wait_for(service, left + 3, "vqtok_requests_total", route="/v1/encode", status="499")
    _wait_for(service, dropped + 3, "vqtok_abandoned_total", reason="disconnect")
    assert _metric(service, "vqtok_batch_size_sum") == ran + 1


def test_a_caller_who_leaves_in_the_middle_of_its_body_is_no_defect(
    service: ServiceProcess,
) -> None:
    left = _metric(service, "vqtok_requests_total", route="/v1/encode", status="499")
    _begin_post(service, b"abc", 1000).close()
    _wait_for(service, left + 1, "vqtok_requests_total", route="/v1/encode", status="499")
    assert not any("defect" in line for line in service.log)


def test_a_body_that_does_not_come_is_408(service: ServiceProcess) -> None:
    with (
        _begin_post(service, b"abc", 1000) as connection,
        http.client.HTTPResponse(connection) as response,
    ):
        response.begin()
        assert response.status == 408
        assert b"body_timeout" in response.read()


def test_who_is_in_a_hurry_gets_504_in_time(service: ServiceProcess) -> None:
    headers = {**PNG, "Vqtok-Timeout-Ms": "100"}
    with httpx.Client() as client:
        started = time.monotonic()
        answer = client.post(f"{service.url}/v1/encode", content=png(0), headers=headers)
        seconds = time.monotonic() - started
    assert answer.status_code == 504
    assert answer.json()["code"] == "deadline_exceeded"
    assert 0.09 < seconds < DELAY
    assert "vqtok-model" in answer.headers


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1.5", "²", "9" * 20])
def test_a_timeout_that_is_none_is_422(service: ServiceProcess, value: str) -> None:
    headers = {**PNG, "Vqtok-Timeout-Ms": value.encode()}
    answer = httpx.post(f"{service.url}/v1/encode", content=png(0), headers=headers)
    assert answer.status_code == 422


def test_an_item_that_fails_in_the_model_fails_alone(service: ServiceProcess) -> None:
    poison = write_image(np.full((16, 16, 3), POISON, np.uint8))
    files = [("images", png(1)), ("images", poison), ("images", png(2))]
    failed = httpx.post(f"{service.url}/v1/encode", files=files, timeout=30)
    assert failed.status_code == 503
    assert failed.json()["code"] == "model_failure"
    assert failed.json()["detail"].startswith("Image 1: ")
    answer = httpx.post(f"{service.url}/v1/encode?on_error=item", files=files, timeout=30)
    assert answer.status_code == 200
    first, second, third = answer.json()["items"]
    assert second["error"]["code"] == "model_failure"
    engine = FakeEngine(fake_manifest())
    for item, seed in ((first, 1), (third, 2)):
        pixels = np.random.default_rng(seed).integers(0, 200, (16, 16, 3)).astype(np.uint8)
        np.testing.assert_array_equal(item["tokens"], engine.encode(pixels[None]).tokens[0])


def test_items_that_cannot_be_read_fail_alone(service: ServiceProcess) -> None:
    files = [("images", png(1)), ("images", b"\x89PNG\r\n\x1a\nbroken"), ("images", b"hello")]
    refused = httpx.post(f"{service.url}/v1/reconstruct", files=files, timeout=30)
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith("Image 1: ")
    answer = httpx.post(f"{service.url}/v1/reconstruct?on_error=item", files=files, timeout=30)
    first, second, third = answer.json()["images"]
    assert isinstance(first, str)
    assert second["error"]["code"] == "broken_image"
    assert third["error"]["code"] == "unsupported_image"
    assert answer.json()["quality"][1] is None


def test_work_that_does_not_fit_is_refused_before_its_pixels_are_read() -> None:
    flags = ["--cost", "0.0001", "--max-queue-seconds", "1"]
    with ServiceProcess(flags, "tests.service.fake_model") as service:
        service.wait_ready()
        large = write_array(np.zeros((300, 16, 16, 3), np.uint8))
        headers = {"Content-Type": "application/x-npy"}
        never = httpx.post(f"{service.url}/v1/encode", content=large, headers=headers)
        assert never.status_code == 413
        assert never.json()["setting"] == "max_queue_seconds"
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(
                b"POST /v1/encode HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-npy\r\n"
                b"Content-Length: %d\r\n\r\n" % len(large) + large[:128]
            )
            connection.settimeout(2)
            assert connection.recv(20).startswith(b"HTTP/1.1 413")


@pytest.mark.slow
def test_a_caller_who_does_not_take_its_answer_is_cut_off() -> None:
    flags = ["--request-timeout", "2", "--tile-pixels", "100000000"]
    with ServiceProcess(flags, "tests.service.fake_model") as service:
        service.wait_ready()
        grid = write_array(np.zeros((1, 600, 600), np.uint8))
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(
                b"POST /v1/decode HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-npy\r\n"
                b"Accept: application/x-npy\r\nContent-Length: %d\r\n\r\n" % len(grid) + grid
            )
            assert connection.recv(12) == b"HTTP/1.1 200"
            _wait_for(service, 0, "vqtok_requests_in_work")
            labels = {"route": "/v1/decode", "status": "499"}
            _wait_for(service, 1, "vqtok_requests_total", **labels)
