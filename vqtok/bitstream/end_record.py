"""The end of a stream: an index of its chunks, and the bytes that say that nothing is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from vqtok.bitstream.layout import (
    END_KIND,
    RECORD,
    TAIL,
    TAIL_MARK,
    Cursor,
    record,
    unsealed,
    varint,
)
from vqtok.errors import BitstreamDamaged

PART: Final = "end record"


@dataclass(frozen=True)
class ChunkPlace:
    """Where a chunk lies: its bytes from `offset`, its images from number `first_image`."""

    offset: int
    num_bytes: int
    first_image: int
    num_images: int


def end_bytes(chunks: Sequence[tuple[int, int]]) -> bytes:
    """End record and tail of a stream of chunks (images, bytes)."""
    numbers = [len(chunks), *(number for chunk in chunks for number in chunk)]
    data = record(END_KIND, b"".join(map(varint, numbers)))
    return data + TAIL.pack(len(data), TAIL_MARK)


def parse_end(data: bytes, header_bytes: int) -> tuple[ChunkPlace, ...]:
    """The index that an end record holds; `header_bytes` are those before the first chunk.

    Raises:
        BitstreamDamaged: the checksum differs, or a field cannot be.
    """
    cursor = Cursor(unsealed(data, "The end record", PART)[RECORD.size :], "The end record", PART)
    count = cursor.varint(len(data) // 2)
    chunks = [(cursor.varint(), cursor.varint(2**40)) for _ in range(count)]
    offsets = accumulate((length for _, length in chunks), initial=header_bytes)
    firsts = accumulate((images for images, _ in chunks), initial=0)
    return tuple(
        ChunkPlace(offset, length, first, images)
        for (images, length), offset, first in zip(chunks, offsets, firsts, strict=False)
    )


def check_tail(tail: bytes, length: int | None = None) -> int:
    """The length of the end record that the last bytes of a stream state.

    Raises:
        BitstreamDamaged: they are no such bytes, or state another length than `length`.
    """
    stated, mark = TAIL.unpack(tail)
    if mark != TAIL_MARK or (length is not None and stated != length):
        raise BitstreamDamaged("The last 8 bytes are damaged.", part=PART)
    return int(stated)
