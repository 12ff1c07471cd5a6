"""Connections that are slow or silent: none is kept for ever, and none is cut while it moves."""

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Generator

import numpy as np
import pytest

from tests.service.process import ServiceProcess
from vqtok.wire.npy_format import write_array

PATIENCE = 0.5
STALL = 1.0
HALF_HEAD = b"POST /v1/encode HTTP/1.1\r\nHost: test\r\nX-Request-Id: job-7\r\nX-Half: "
GET = b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture(scope="module")
def service() -> Generator[ServiceProcess]:
    flags = ["--body-timeout", str(PATIENCE), "--request-timeout", str(STALL)]
    more = ["--keep-alive-seconds", "1", "--tile-pixels", "100000000"]
    with ServiceProcess([*flags, *more], "tests.service.fake_model") as running:
        yield running.wait_ready()


@pytest.fixture
def connection(service: ServiceProcess) -> Generator[socket.socket]:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as opened:
        yield opened


def _to_the_end(connection: socket.socket) -> bytes:
    received: list[bytes] = []
    with contextlib.suppress(ConnectionResetError):
        received.extend(iter(lambda: connection.recv(65536), b""))
    return b"".join(received)


def _dribble(connection: socket.socket, seconds: float) -> None:
    """Send a byte now and then until the other side has closed."""
    ends_at = time.monotonic() + seconds
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while time.monotonic() < ends_at:
            connection.sendall(b"a")
            time.sleep(0.05)
        raise AssertionError("the connection is still open")


def _status_of_next(connection: socket.socket) -> int:
    with contextlib.closing(http.client.HTTPResponse(connection)) as response:
        response.begin()
        response.read()
    return response.status


def _is_408(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"x-request-id: job-7" in head
    return head.startswith(b"HTTP/1.1 408 ") and json.loads(body)["code"] == "body_timeout"


def test_a_head_that_stops_in_the_middle_is_408(connection: socket.socket) -> None:
    connection.sendall(HALF_HEAD)
    started = time.monotonic()
    assert _is_408(_to_the_end(connection))
    assert PATIENCE / 2 < time.monotonic() - started < 6 * PATIENCE


def test_bytes_that_trickle_into_a_head_do_not_prolong_it(connection: socket.socket) -> None:
    connection.sendall(HALF_HEAD)
    _dribble(connection, 6 * PATIENCE)


def test_a_second_head_that_stops_in_the_middle_is_408_too(connection: socket.socket) -> None:
    connection.sendall(GET)
    assert _status_of_next(connection) == 200
    connection.sendall(HALF_HEAD)
    assert _is_408(_to_the_end(connection))


def test_a_head_that_comes_in_pieces_in_time_is_served(connection: socket.socket) -> None:
    for start in range(0, len(GET), 10):
        connection.sendall(GET[start : start + 10])
        time.sleep(0.02)
    assert _status_of_next(connection) == 200


def test_a_connection_on_which_nothing_comes_is_dropped(connection: socket.socket) -> None:
    started = time.monotonic()
    assert _to_the_end(connection) == b""
    assert PATIENCE / 2 < time.monotonic() - started < 6 * PATIENCE


def test_a_body_that_trickles_on_after_its_answer_is_not_waited_for(
    connection: socket.socket,
) -> None:
    connection.sendall(b"POST /none HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n")
    assert _status_of_next(connection) == 404
    _dribble(connection, 6 * PATIENCE)


def test_an_idle_connection_is_kept_as_long_as_keep_alive_says(connection: socket.socket) -> None:
    for _ in range(2):
        connection.sendall(GET)
        assert _status_of_next(connection) == 200
        time.sleep(1.5 * PATIENCE)
    connection.sendall(GET)
    assert _status_of_next(connection) == 200


def test_it_is_closed_when_idle_also_after_a_body_that_outlasted_its_answer(
    connection: socket.socket,
) -> None:
    connection.sendall(b"POST /none HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n")
    assert _status_of_next(connection) == 404
    connection.sendall(b"hello" + GET)
    assert _status_of_next(connection) == 200
    connection.sendall(b"\r\n")
    connection.settimeout(5)
    assert _to_the_end(connection) == b""


def test_who_reads_steadily_gets_all_of_its_answer_however_long_that_takes(
    service: ServiceProcess,
) -> None:
    grid = write_array(np.zeros((1, 500, 500), np.uint8))
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", service.port))
        connection.sendall(
            b"POST /v1/decode HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-npy\r\n"
            b"Accept: application/x-npy\r\nContent-Length: %d\r\n\r\n" % len(grid) + grid
        )
        with contextlib.closing(http.client.HTTPResponse(connection)) as response:
            response.begin()
            assert response.status == 200
            started, num_bytes = time.monotonic(), 0
            while piece := response.read(50_000):
                num_bytes += len(piece)
                time.sleep(max(0.0, started + num_bytes / 3_000_000 - time.monotonic()))
    assert num_bytes == 128 + 2000 * 2000 * 3
    assert time.monotonic() - started > 3 * STALL


def test_who_takes_nothing_is_cut_off_and_the_log_says_so(
    service: ServiceProcess, connection: socket.socket
) -> None:
    grid = write_array(np.zeros((1, 600, 600), np.uint8))
    connection.sendall(
        b"POST /v1/decode HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-npy\r\n"
        b"Accept: application/x-npy\r\nContent-Length: %d\r\n\r\n" % len(grid) + grid
    )
    ends_at = time.monotonic() + 10
    while not any("took nothing of its answer" in line for line in service.log):
        assert time.monotonic() < ends_at, service.log
        time.sleep(0.02)
