"""Reading a body: bounded in size and time, and only after its type has been looked at."""

import asyncio
import math
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager

from starlette.requests import Request
from starlette.types import Message

from service.admission import body_too_large
from service.call import CallerLeft, call_of
from service.state import service_of
from vqtok.errors import BodyTimeout, UnsupportedMediaType

SMALL_BYTES = 1024 * 1024
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"

OnPrefix = Callable[[bytes], bool]
"""Is given what has arrived so far until it returns True; may raise to refuse the rest."""


def media_type_of(request: Request, taken: Collection[str], default: str | None = None) -> str:
    """The body's media type, lower case and without parameters, if it is one of `taken`; an entry
    `image/*` of `taken` stands for all images.

    Raises:
        UnsupportedMediaType: naming what is taken.
    """
    call = call_of(request)
    coding = (call.header(b"content-encoding") or "identity").strip().lower()
    if coding != "identity":
        raise UnsupportedMediaType(
            f"Bodies are taken without a content coding, not as {coding[:40]!r}. Send it as it is."
        )
    header = call.header(b"content-type") or default or ""
    media_type = header.partition(";")[0].strip().lower()
    if media_type in taken or f"{media_type.partition('/')[0]}/*" in taken:
        return media_type
    choices = ", ".join(taken)
    what = f"The content type {media_type[:80]!r} is not taken" if header else "No content type"
    raise UnsupportedMediaType(f"{what}. Send one of {choices}.{_hint(media_type, taken)}")


def _hint(media_type: str, taken: Collection[str]) -> str:
    if media_type != FORM or JSON not in taken:
        return ""
    return f" curl -d sends {FORM} unless it is told -H 'Content-Type: {JSON}'."


class BodyReader:
    """The pieces of a body as they arrive, within the limits on its size and its time."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._call = call_of(request)
        self._settings = service_of(request).settings
        self._started = time.monotonic()
        self.num_bytes = 0
        self.is_complete = False

    async def piece(self) -> bytes:
        """What arrived next; the last piece, after which `is_complete` holds, may be empty.

        Raises:
            TooLarge: more than `max_body_bytes`.
            BodyTimeout: the whole did not arrive within `body_timeout`.
            CallerLeft: the connection was closed in the middle of it.
        """
        message = await self._next_message()
        if message["type"] == "http.disconnect":
            raise CallerLeft
        data: bytes = message.get("body", b"")
        self.num_bytes += len(data)
        if self.num_bytes > self._settings.max_body_bytes:
            raise body_too_large(self._settings.max_body_bytes)
        if not message.get("more_body", False):
            self.is_complete = True
            self._end()
            if self._call.reservation is not None:
                self._call.reservation.shrink(self.num_bytes)
        return data

    async def some(self, num_bytes: int) -> list[bytes]:
        """The next pieces, of `num_bytes` together or a little more; of less at the end.

        Raises:
            TooLarge, BodyTimeout, CallerLeft: as `piece`.
        """
        wanted = self.num_bytes + num_bytes
        pieces: list[bytes] = []
        while not self.is_complete and self.num_bytes < wanted:
            pieces.append(await self.piece())
        return pieces

    def pause(self) -> AbstractContextManager[None]:
        """Inside, nobody waits for the caller, and the time does not count as its."""
        return self._call.body.pause()

    async def _next_message(self) -> Message:
        arrival = self._call.body
        if not arrival.timed_out:
            arrival.is_awaited = True
            try:
                return await self._request.receive()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                # Otherwise it is cancelled for another reason, by somebody who will see to it.
                if task is None or not arrival.timed_out or task.uncancel():
                    raise
            finally:
                arrival.is_awaited = False
        self._end()
        raise BodyTimeout(
            f"The body did not arrive within {self._settings.body_timeout:g} s (body_timeout)."
        )

    def _end(self) -> None:
        self._call.body.due = math.inf
        self._call.add("body", self._started, time.monotonic())


async def read_body(request: Request, on_prefix: OnPrefix | None = None) -> bytes:
    """The whole body. `on_prefix` may raise to refuse the rest of it.

    Raises:
        TooLarge, BodyTimeout, CallerLeft: as `BodyReader.piece`.
    """
    reader = BodyReader(request)
    pieces: list[bytes] = []
    while not reader.is_complete:
        pieces.append(await reader.piece())
        if on_prefix is not None and on_prefix(b"".join(pieces)):
            on_prefix = None
    return await joined(request, pieces)


async def joined(request: Request, pieces: list[bytes]) -> bytes:
    """The pieces as one; large ones are put together in the pool."""
    if sum(map(len, pieces)) <= SMALL_BYTES:
        return b"".join(pieces)
    return await service_of(request).pool.run(b"".join, pieces)
