"""A full house: refusals are quick, come before the body, and say when to try again."""

import asyncio
import http.client
import socket
import time
from collections import Counter
from collections.abc import Generator

import httpx
import pytest

from tests.service.load import png
from tests.service.process import ServiceProcess, counter

PNG = {"Content-Type": "image/png"}
EIGHT_MEGABYTES = 8_000_000


@pytest.fixture(scope="module")
def service() -> Generator[ServiceProcess]:
    flags = ["--delay", "0.4", "--max-requests", "4"]
    with ServiceProcess(flags, "tests.service.fake_model") as running:
        yield running.wait_ready()


async def _post_at_once(service: ServiceProcess, count: int) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=service.url, timeout=30, limits=limits) as client:
        posts = [client.post("/v1/encode", content=png(seed), headers=PNG) for seed in range(count)]
        return list(await asyncio.gather(*posts))


def test_forty_requests_on_four_slots_give_only_200_and_429(service: ServiceProcess) -> None:
    before = httpx.get(f"{service.url}/metrics").text
    answers = asyncio.run(_post_at_once(service, 40))
    seen = Counter(answer.status_code for answer in answers)
    assert set(seen) == {200, 429}
    for answer in answers:
        if answer.status_code == 429:
            assert answer.json()["code"] == "overloaded"
            assert int(answer.headers["retry-after"]) >= 1
            assert int(answer.headers["vqtok-retry-after-ms"]) >= 1
    after = httpx.get(f"{service.url}/metrics").text
    name = "vqtok_requests_refused_total"
    refused = counter(after, name, reason="slots") - counter(before, name, reason="slots")
    assert refused == seen[429]


@pytest.fixture
def full_house(service: ServiceProcess) -> Generator[None]:
    connections = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(4)]
    image = png(0)
    for connection in connections:
        head = (
            "POST /v1/encode HTTP/1.1\r\nHost: test\r\nContent-Type: image/png\r\n"
            f"Content-Length: {len(image)}\r\n\r\n"
        )
        connection.sendall(head.encode())
    _wait_for_work(service, 4)
    yield
    for connection in connections:
        connection.close()
    _wait_for_work(service, 0)


def _wait_for_work(service: ServiceProcess, count: int) -> None:
    ends_at = time.monotonic() + 10
    while counter(httpx.get(f"{service.url}/metrics").text, "vqtok_requests_in_work") != count:
        assert time.monotonic() < ends_at
        time.sleep(0.02)


@pytest.mark.usefixtures("full_house")
def test_a_429_comes_before_a_byte_of_the_body_is_sent(service: ServiceProcess) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(
            b"POST /v1/encode HTTP/1.1\r\nHost: test\r\nContent-Type: image/png\r\n"
            b"Content-Length: %d\r\n\r\n" % EIGHT_MEGABYTES
        )
        connection.settimeout(2)
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            assert response.status == 429
            assert b"max_requests" in response.read()


@pytest.mark.usefixtures("full_house")
def test_who_waits_for_100_continue_never_has_to_send_the_body(service: ServiceProcess) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(
            b"POST /v1/encode HTTP/1.1\r\nHost: test\r\nContent-Type: image/png\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % EIGHT_MEGABYTES
        )
        connection.settimeout(2)
        assert connection.recv(20).startswith(b"HTTP/1.1 429")


@pytest.mark.usefixtures("full_house")
def test_who_sends_the_whole_body_first_still_gets_its_429(service: ServiceProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    for _ in range(3):  # on one connection: the rest of a body is thrown away, not answered
        connection.request("POST", "/v1/encode", bytes(EIGHT_MEGABYTES), PNG)
        response = connection.getresponse()
        assert response.status == 429
        response.read()
    connection.close()


@pytest.mark.usefixtures("full_house")
def test_probes_metrics_and_documents_answer_in_a_full_house(service: ServiceProcess) -> None:
    paths = ["/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json", "/v1/models"]
    for path in paths:
        assert httpx.get(service.url + path).status_code == 200, path
