"""Bodies of many images that are sent bit by bit."""

import http.client
import time
from collections.abc import Mapping, Sequence

import httpx

from tests.service.process import ServiceProcess, counter

FORM = {"Content-Type": "multipart/form-data; boundary=x0x"}


def form(files: Sequence[bytes], field: str = "images") -> bytes:
    """A body for `FORM`."""
    head = f'--x0x\r\nContent-Disposition: form-data; name="{field}"; filename="a"\r\n\r\n'.encode()
    return b"".join(head + each + b"\r\n" for each in files) + b"--x0x--\r\n"


def begin(
    service: ServiceProcess, body: bytes, sent: int, headers: Mapping[str, str], query: str = ""
) -> http.client.HTTPConnection:
    """A call of encode of whose body `sent` bytes have been sent."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    connection.putrequest("POST", f"/v1/encode{query}")
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(body[:sent])
    return connection


def in_the_model(service: ServiceProcess) -> float:
    """Images that have gone into the model since the start."""
    return counter(httpx.get(f"{service.url}/metrics").text, "vqtok_batch_size_sum")


def wait_for_images(service: ServiceProcess, count: float) -> None:
    """Wait until so many have gone into the model since the start."""
    ends_at = time.monotonic() + 10
    while in_the_model(service) < count:
        assert time.monotonic() < ends_at, f"{in_the_model(service)} images, not {count}"
        time.sleep(0.01)


def wait_for_nothing_held(service: ServiceProcess) -> None:
    """Wait until no request is at work, and see that nothing stays reserved."""
    ends_at = time.monotonic() + 10
    while counter(metrics := httpx.get(f"{service.url}/metrics").text, "vqtok_requests_in_work"):
        assert time.monotonic() < ends_at
        time.sleep(0.01)
    for name in ("vqtok_work_seconds", "vqtok_body_bytes_held"):
        assert counter(metrics, name) == 0
