"""Tokens of images that were encoded before, found by the images' pixels."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from service.rows import Arrays, Row
from vqtok.errors import VqtokError

OVERHEAD_BYTES = 600
"""What an entry costs beside its numbers: array objects, key, place in the table; 581 measured."""


@dataclass(frozen=True)
class Origins:
    """Where the rows of a request came from: the cache, another request's run that was waited for,
    a run of their own.
    """

    hits: int = 0
    collapsed: int = 0
    misses: int = 0

    def __add__(self, other: "Origins") -> "Origins":
        return Origins(
            self.hits + other.hits,
            self.collapsed + other.collapsed,
            self.misses + other.misses,
        )

    @property
    def total(self) -> int:
        """How many images were looked for."""
        return self.hits + self.collapsed + self.misses

    def header(self) -> str:
        """The value of `Cache-Status` (RFC 9211)."""
        if self.hits == self.total:
            return "vqtok; hit"
        forwarded = "partial" if self.hits else "miss"
        collapsed = "; collapsed" if self.collapsed else ""
        counts = ", ".join(f"{name}={count}" for name, count in asdict(self).items())
        return f'vqtok; fwd={forwarded}; stored{collapsed}; detail="{counts}"'


NOT_LOOKED_FOR = Origins()
"""Where no cache was asked."""


@dataclass
class _Stored:
    row: Arrays
    num_bytes: int


Flight = asyncio.Future[Arrays | None]
"""A run under way; None when it ended without a row for others."""


class TokenCache:
    """The least recently used rows go when there are more than `max_bytes` of them. Equal images
    that come while the first is at work wait for its row. Belongs to the event loop.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._stored: OrderedDict[bytes, _Stored] = OrderedDict()
        self._flights: dict[bytes, Flight] = {}
        self.num_bytes = 0
        self.num_evicted = 0

    async def rows(
        self, keys: Sequence[bytes], encode: Callable[[list[int]], Awaitable[Sequence[Row]]]
    ) -> tuple[list[Row], Origins]:
        """The rows of images with these keys, in order. `encode` gives those of the images whose
        numbers it gets; rows that failed are not kept, and nobody else is given them.
        """
        found: dict[int, Row] = {}
        origins = Origins()
        while missing := [index for index in range(len(keys)) if index not in found]:
            mine: list[int] = []
            theirs: dict[int, Flight] = {}
            for index in missing:
                key = keys[index]
                if (stored := self._stored.get(key)) is not None:
                    self._stored.move_to_end(key)
                    found[index] = stored.row
                    origins += Origins(hits=1)
                elif key in self._flights:
                    theirs[index] = self._flights[key]
                else:
                    self._flights[key] = asyncio.get_running_loop().create_future()
                    mine.append(index)
            if mine:
                found.update(await self._lead(keys, mine, encode))
                origins += Origins(misses=len(mine))
            if theirs:
                # Not awaited one by one: that would cancel them when this caller leaves.
                await asyncio.wait(theirs.values())
            for index, flight in theirs.items():
                row = flight.result()
                if row is not None:
                    found[index] = row
                    origins += Origins(collapsed=1)
        return [found[index] for index in range(len(keys))], origins

    async def _lead(
        self,
        keys: Sequence[bytes],
        mine: list[int],
        encode: Callable[[list[int]], Awaitable[Sequence[Row]]],
    ) -> dict[int, Row]:
        try:
            rows = dict(zip(mine, await encode(mine), strict=True))
            for index, row in rows.items():
                if not isinstance(row, VqtokError):
                    self._flights[keys[index]].set_result(self._store(keys[index], row))
            return rows
        finally:
            for index in mine:
                flight = self._flights.pop(keys[index])
                if not flight.done():
                    flight.set_result(None)

    def _store(self, key: bytes, row: Arrays) -> Arrays:
        # A row is a view of its batch, and would keep all of it.
        own = tuple(array.copy() for array in row)
        num_bytes = sum(array.nbytes for array in own) + OVERHEAD_BYTES
        if num_bytes <= self._max_bytes:
            self._stored[key] = _Stored(own, num_bytes)
            self.num_bytes += num_bytes
        while self.num_bytes > self._max_bytes:
            _, oldest = self._stored.popitem(last=False)
            self.num_bytes -= oldest.num_bytes
            self.num_evicted += 1
        return own


def keys_of(images: NDArray[np.uint8], origin: str) -> list[bytes]:
    """A key for each of the preprocessed images (n, H, W, 3): equal for equal pixels, shape and
    origin, which says what makes their tokens, and for nothing else.
    """
    prefix = f"{origin} {images.shape[1:]}".encode()
    return [_digest(prefix, image) for image in images]


def _digest(prefix: bytes, image: NDArray[np.uint8]) -> bytes:
    digest = hashlib.sha256(prefix)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()
