"""Reading a body: bounded in size and time, and only after its type has been looked at."""

import asyncio
from collections.abc import Callable, Collection

from starlette.requests import Request

from service.admission import body_too_large
from service.call import CallerLeft, call_of
from service.state import service_of
from vqtok.errors import BodyTimeout, UnsupportedMediaType

SMALL_BYTES = 1024 * 1024
BITSTREAM = "application/vnd.vqtok.tokens"
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
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise UnsupportedMediaType(
            f"Bodies are taken without a content coding, not as {coding[:40]!r}. Send it as it is."
        )
    header = request.headers.get("content-type", default or "")
    media_type = header.partition(";")[0].strip().lower()
    if media_type in taken or f"{media_type.partition('/')[0]}/*" in taken:
        return media_type
    choices = ", ".join(taken)
    if media_type == BITSTREAM:
        raise UnsupportedMediaType(f"{BITSTREAM} is not offered yet. Send one of {choices}.")
    what = f"The content type {media_type[:80]!r} is not taken" if header else "No content type"
    raise UnsupportedMediaType(f"{what}. Send one of {choices}.{_hint(media_type, taken)}")


def _hint(media_type: str, taken: Collection[str]) -> str:
    if media_type != FORM or JSON not in taken:
        return ""
    return f" curl -d sends {FORM} unless it is told -H 'Content-Type: {JSON}'."


async def read_body(request: Request, on_prefix: OnPrefix | None = None) -> bytes:
    """The whole body.

    Raises:
        TooLarge: more than `max_body_bytes`, or what `on_prefix` raises.
        BodyTimeout: it did not arrive within `body_timeout`.
        CallerLeft: the connection was closed in the middle of it.
    """
    call, service = call_of(request), service_of(request)
    settings = service.settings
    try:
        with call.stage("body"):
            async with asyncio.timeout(settings.body_timeout):
                chunks = await _receive_all(request, settings.max_body_bytes, on_prefix)
    except TimeoutError:
        raise BodyTimeout(
            f"The body did not arrive within {settings.body_timeout:g} s (body_timeout)."
        ) from None
    num_bytes = sum(map(len, chunks))
    if call.reservation is not None:
        call.reservation.shrink(num_bytes)
    if num_bytes <= SMALL_BYTES:
        return b"".join(chunks)
    return await service.pool.run(b"".join, chunks)


async def _receive_all(request: Request, limit: int, on_prefix: OnPrefix | None) -> list[bytes]:
    chunks: list[bytes] = []
    num_bytes = 0
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise CallerLeft
        chunks.append(message.get("body", b""))
        num_bytes += len(chunks[-1])
        if num_bytes > limit:
            raise body_too_large(limit)
        more = message.get("more_body", False)
        if on_prefix is not None and on_prefix(b"".join(chunks)):
            on_prefix = None
    return chunks
