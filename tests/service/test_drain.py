"""SIGTERM: what was admitted gets its whole answer, and nothing sent later is lost in silence."""

import contextlib
import http.client
import random
import socket
import time
from collections import Counter

import numpy as np
import pytest

from tests.service.load import OUTCOMES_AFTER_DRAIN, Load, png
from tests.service.process import ENDED, ServiceProcess
from vqtok.wire.npy_format import write_array

FAKE = "tests.service.fake_model"


def drain_under_load(seed: int) -> None:
    rng = random.Random(seed)
    with ServiceProcess(["--delay", "0.01", "--runners", "2"], FAKE) as service:
        service.wait_ready()
        loads = [
            Load(service.port, 6, keep_alive=True),
            Load(service.port, 4, keep_alive=True, pause=0.05),
            Load(service.port, 4, keep_alive=False),
        ]
        for load in loads:
            load.start()
        time.sleep(rng.uniform(0.1, 0.5))
        service.terminate()
        seen = sum((load.finish() for load in loads), Counter[str]())
        assert service.wait() == 0, service.log
        assert set(seen) <= OUTCOMES_AFTER_DRAIN, seen
        assert seen["200"] == service.admitted() > 0, seen


def test_every_admitted_request_is_answered_when_sigterm_comes_under_load() -> None:
    drain_under_load(0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_hundred_sigterms_under_load_lose_nothing() -> None:
    for seed in range(100, 200):
        drain_under_load(seed)


def _head(image: bytes) -> bytes:
    return (
        b"POST /v1/encode HTTP/1.1\r\nHost: test\r\nContent-Type: image/png\r\n"
        b"Content-Length: %d\r\n\r\n" % len(image)
    )


def _next_status(connection: socket.socket) -> int:
    with contextlib.closing(http.client.HTTPResponse(connection)) as response:
        response.begin()
        response.read()
    return response.status


def test_a_body_that_is_on_its_way_when_sigterm_comes_is_still_answered() -> None:
    with ServiceProcess([], FAKE) as service:
        service.wait_ready()
        image = png(1)
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(_head(image) + image[:50])
            time.sleep(0.2)
            service.terminate()
            time.sleep(0.4)
            connection.sendall(image[50:])
            assert _next_status(connection) == 200
        assert service.wait() == 0
        assert service.admitted() == 1


def test_a_second_request_in_the_buffer_when_sigterm_comes_is_answered_too() -> None:
    with ServiceProcess(["--delay", "0.5"], FAKE) as service:
        service.wait_ready()
        image = png(1)
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(2 * (_head(image) + image))
            time.sleep(0.2)
            service.terminate()
            answers = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answers.count(b"HTTP/1.1 200") == 1
        assert answers.count(b"HTTP/1.1 503") == 1
        assert b'"code":"draining"' in answers
        assert service.wait() == 0


@pytest.mark.slow
def test_connections_that_ask_for_nothing_do_not_hold_it_up() -> None:
    with ServiceProcess([], FAKE) as service:
        service.wait_ready()
        silent = socket.create_connection(("127.0.0.1", service.port))
        half = socket.create_connection(("127.0.0.1", service.port))
        half.sendall(b"POST /v1/encode HTTP/1.1\r\nHost: te")
        with silent, half:
            time.sleep(0.1)
            service.terminate()
            started = time.monotonic()
            assert silent.recv(1) == b""
            assert service.wait() == 0
            assert time.monotonic() - started < 5


def test_what_takes_longer_than_drain_seconds_is_cut_off_and_counted() -> None:
    with ServiceProcess(["--delay", "3", "--drain-seconds", "0.3"], FAKE) as service:
        service.wait_ready()
        image = png(1)
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(_head(image) + image)
            time.sleep(0.2)
            service.terminate()
            started = time.monotonic()
            assert service.wait() == 1
            assert time.monotonic() - started < 2.5
        assert service.wait_for(ENDED)[2] == "1"


def test_sigterm_while_the_bundle_is_opened_ends_it_at_once() -> None:
    with ServiceProcess(["--open-delay", "30"], FAKE) as service:
        time.sleep(0.2)
        started = time.monotonic()
        service.terminate()
        assert service.wait() == 0
        assert time.monotonic() - started < 5


@pytest.mark.slow
def test_a_large_answer_to_a_slow_reader_is_whole() -> None:
    with ServiceProcess(["--tile-pixels", "100000000"], FAKE) as service:
        service.wait_ready()
        grid = write_array(np.zeros((1, 500, 500), np.uint8))
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(
                b"POST /v1/decode HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-npy\r\n"
                b"Accept: application/x-npy\r\nContent-Length: %d\r\n\r\n" % len(grid) + grid
            )
            with contextlib.closing(http.client.HTTPResponse(connection)) as response:
                response.begin()
                service.terminate()
                time.sleep(3)
                assert len(response.read()) == 128 + 2000 * 2000 * 3
        assert service.wait() == 0
