"""HTTP/1.1 for a load generator: connections that stay open, and nothing that costs much."""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h11

from vqtok.errors import InvalidParameter

READ_BYTES = 256 * 1024
FAILED = 0
"""The status of a request that got no answer."""


@dataclass(frozen=True, eq=False)
class Request:
    """One request of `num_images` images, tokens or samples."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    num_images: int
    method: str = "POST"


@dataclass(frozen=True)
class Reply:
    """The status of an answer and its body; FAILED and the reason where there was none."""

    status: int
    body: bytes = b""
    reason: str = ""


@dataclass(eq=False)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    http: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))
    is_used: bool = False


class Connections:
    """Connections to one service: an idle one is used again, and where none is, one is made.

    `headers` go with every request, and an answer that takes longer than `seconds` is none.
    """

    def __init__(self, url: str, headers: Mapping[str, str], seconds: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidParameter(f"{url!r} is no address of a service: http://HOST:PORT.")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Host": parts.netloc.rpartition("@")[2], **headers}
        self._seconds = seconds
        self._idle: list[_Connection] = []
        self._closing: set[asyncio.Task[None]] = set()

    async def send(self, request: Request) -> Reply:
        """The answer to a request. Never raises for what the service or the network does."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._send(request)
        except TimeoutError:
            return Reply(FAILED, reason=f"no answer in {self._seconds:g} s")
        except (OSError, EOFError, h11.ProtocolError) as error:
            return Reply(FAILED, reason=f"{type(error).__name__}: {error}".strip(": "))

    async def close(self) -> None:
        """Close what is idle, and wait until everything is closed."""
        while self._idle:
            self._close(self._idle.pop())
        await asyncio.gather(*self._closing)

    def _close(self, connection: _Connection) -> None:
        connection.writer.close()
        task = asyncio.create_task(_closed(connection.writer))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _send(self, request: Request) -> Reply:
        while self._idle:
            connection = self._idle.pop()
            reply = await self._try(connection, request)
            if reply is not None:
                return reply
        reply = await self._try(await self._open(), request)
        if reply is None:
            raise ConnectionResetError("closed before it answered")
        return reply

    async def _open(self) -> _Connection:
        return _Connection(
            *await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=READ_BYTES)
        )

    async def _try(self, connection: _Connection, request: Request) -> Reply | None:
        """The reply; None where the service had closed the connection while it was idle."""
        is_done = False
        try:
            reply = await self._exchange(connection, request)
            is_done = reply is not None and _can_go_on(connection.http)
            return reply
        except (ConnectionError, h11.RemoteProtocolError):
            if connection.is_used and connection.http.their_state is h11.SEND_RESPONSE:
                return None
            raise
        finally:
            if is_done:
                connection.is_used = True
                self._idle.append(connection)
            else:
                self._close(connection)

    async def _exchange(self, connection: _Connection, request: Request) -> Reply | None:
        http, writer = connection.http, connection.writer
        length = str(len(request.body))
        headers = {**self._headers, **request.headers, "Content-Length": length}
        target = self._prefix + request.path
        head = h11.Request(method=request.method, target=target, headers=list(headers.items()))
        parts = [http.send(head), http.send(h11.Data(request.body)), http.send(h11.EndOfMessage())]
        writer.writelines([part for part in parts if part])
        await writer.drain()
        status = FAILED
        body: list[bytes] = []
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                data = await connection.reader.read(READ_BYTES)
                if not data and connection.is_used and status == FAILED:
                    return None
                http.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return Reply(status, b"".join(body))


def _can_go_on(http: h11.Connection) -> bool:
    if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
        return False
    http.start_next_cycle()
    return True


async def _closed(writer: asyncio.StreamWriter) -> None:
    # It may be broken, and closed for that reason.
    with contextlib.suppress(OSError):
        await writer.wait_closed()
