"""Where a reader's bytes come from: bytes, a file, or pieces that arrive one by one."""

import io
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final, Protocol

from vqtok.errors import InvalidParameter

_PIECE: Final = 1 << 20


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


Readable = bytes | BinaryIO | Iterable[bytes]


class Source:
    """Reads exactly what is asked for, and knows how much that was."""

    def __init__(self, source: Readable) -> None:
        self._file: _Readable
        if isinstance(source, bytes):
            self._file = io.BytesIO(source)
        elif hasattr(source, "read"):
            self._file = source  # pyright: ignore[reportAttributeAccessIssue]
        else:
            self._file = _Pieces(iter(source))
        self.place = 0

    def read(self, count: int) -> bytes:
        """The next `count` bytes, or fewer at the end. What is not there is not allocated."""
        parts: list[bytes] = []
        left = count
        while left:
            part = self._file.read(min(left, _PIECE))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        self.place += count - left
        return b"".join(parts)

    def seek(self, place: int) -> None:
        """Go on at `place`.

        Raises:
            InvalidParameter: the source cannot go back.
        """
        self._seekable().seek(place)
        self.place = place

    def length(self) -> int:
        """Bytes in all.

        Raises:
            InvalidParameter: as `seek`.
        """
        return self._seekable().seek(0, io.SEEK_END)

    def _seekable(self) -> BinaryIO:
        file = self._file
        if isinstance(file, _Pieces) or not getattr(file, "seekable", lambda: False)():
            raise InvalidParameter(
                "Chunks of a stream that arrives piece by piece can only be read in their order."
            )
        return file  # pyright: ignore[reportReturnType]


class _Pieces:
    """Bytes in pieces of any length, as one file that is read once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            try:
                self._rest = next(self._pieces)
            except StopIteration:
                return b""
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
