"""Clients that keep a service busy and note honestly what became of every request."""

import contextlib
import http.client
import io
import random
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import numpy as np
from PIL import Image

OUTCOMES_AFTER_DRAIN = {"200", "503", "refused", "closed before sending"}


def png(seed: int, size: int = 16) -> bytes:
    """The bytes of a PNG that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 200, (size, size, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Load:
    """`num_clients` threads that post images one after the other until the service is gone, with
    a random pause of at most `pause` seconds in between.
    """

    port: int
    num_clients: int
    keep_alive: bool
    pause: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)

    def start(self) -> None:
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(png(index),), daemon=True)
            for index in range(self.num_clients)
        ]
        for thread in self._threads:
            thread.start()

    def finish(self) -> Counter[str]:
        """Wait for every client to see the end, and return what they saw."""
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads), "a client waits for ever"
        return self.outcomes

    def _run(self, image: bytes) -> None:
        connection: socket.socket | None = None
        while True:
            outcome = "refused"
            try:
                if connection is None:
                    connection = socket.create_connection(("127.0.0.1", self.port))
                outcome = post(connection, image)
            except ConnectionRefusedError:
                pass
            with self._lock:
                self.outcomes[outcome] += 1
            if outcome != "200" or not self.keep_alive:
                if connection is not None:
                    connection.close()
                connection = None
            if outcome not in ("200", "503"):
                return
            time.sleep(self.pause * random.random())


def post(connection: socket.socket, image: bytes) -> str:
    """Post an image on an open connection: the status of a whole answer, or how it was lost."""
    readable, _, _ = select.select([connection], [], [], 0)
    if readable:
        return "closed before sending"
    head = (
        "POST /v1/encode HTTP/1.1\r\nHost: test\r\nContent-Type: image/png\r\n"
        f"Content-Length: {len(image)}\r\n\r\n"
    )
    try:
        connection.sendall(head.encode() + image)
        with contextlib.closing(http.client.HTTPResponse(connection)) as response:
            response.begin()
            response.read()
    except http.client.IncompleteRead:
        return "cut answer"
    except (http.client.HTTPException, OSError):
        return "lost"
    return str(response.status)


@contextlib.contextmanager
def probed(
    url: str, ask: Callable[[httpx.Client], httpx.Response], pause: float
) -> Generator[list[float]]:
    """Asks the service at `url` something again and again, beside whatever else is done to it, and
    sees that each answer is 200; how many seconds each took.
    """
    seconds: list[float] = []
    is_over = threading.Event()

    def run() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not is_over.wait(pause):
                started = time.monotonic()
                answer = ask(client)
                assert answer.status_code == 200, answer.text
                seconds.append(time.monotonic() - started)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield seconds
        finally:
            is_over.set()
        running.result()
