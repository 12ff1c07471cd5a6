"""The header of a chunk: consecutive images of one grid, coded together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vqtok.bitstream.layout import (
    CHECKSUM,
    CHUNK_KIND,
    MAX_CHUNK_IMAGES,
    MAX_CHUNK_TOKENS,
    RECORD,
    Cursor,
    extensions,
    record,
    unsealed,
    varint,
)

PART: Final = "chunk header"
Size = tuple[int, int]
_NO_SIZES, _ONE_SIZE, _EACH_SIZE = range(3)
_NAMES = 1


@dataclass(frozen=True, kw_only=True)
class ChunkHeader:
    """A chunk without its payload.

    `grid` is (h, w). `sizes` are the true (height, width) in pixels of each image, None where the
    whole grid is the picture. `names` has one text an image, or none at all. The checksums are
    CRC-32: of the payload's bytes, and of the tokens as little-endian uint16 (uint32 above 65,536
    codes), image after image in raster order, depth last.
    """

    coder: int
    grid: Size
    sizes: tuple[Size | None, ...]
    payload_bytes: int
    payload_crc: int
    tokens_crc: int
    names: tuple[str, ...] = ()

    @property
    def num_images(self) -> int:
        """How many images it holds."""
        return len(self.sizes)

    def num_tokens(self, depth: int) -> int:
        """How many tokens it holds."""
        return self.num_images * self.grid[0] * self.grid[1] * depth

    def to_bytes(self) -> bytes:
        """The header's bytes, without the payload."""
        numbers = (self.num_images, *self.grid, self.payload_bytes)
        kind, sizes = _packed_sizes(self.sizes)
        body = bytes([self.coder, kind])
        body += b"".join(map(varint, (*numbers, *sizes)))
        body += CHECKSUM.pack(self.payload_crc) + CHECKSUM.pack(self.tokens_crc)
        if self.names:
            # Lengths and not a separator: a name may hold any character.
            texts = [name.encode() for name in self.names]
            body += extensions([(_NAMES, b"".join(varint(len(text)) + text for text in texts))])
        return record(CHUNK_KIND, body)


def parse_chunk_header(data: bytes, index: int, depth: int, offset: int) -> ChunkHeader:
    """The header of chunk number `index`, from all its bytes, which begin at `offset`.

    Raises:
        BitstreamDamaged: the checksum differs, or a field cannot be.
    """
    what = f"The header of chunk {index} (byte {offset})"
    cursor = Cursor(unsealed(data, what, PART)[RECORD.size :], what, PART)
    coder, kind = cursor.byte(), cursor.byte()
    count = cursor.varint(MAX_CHUNK_IMAGES)
    height, width, payload = (cursor.varint() for _ in range(3))
    if not (count and height and width):
        raise cursor.wrong("it states no images or no grid")
    if count * height * width * depth > MAX_CHUNK_TOKENS:
        raise cursor.wrong(
            f"it states {count * height * width * depth} tokens, and a chunk has at most "
            f"{MAX_CHUNK_TOKENS}"
        )
    if payload > 4 * count * height * width * depth + 16:
        raise cursor.wrong(f"{payload} bytes are more than its tokens can need")
    sizes = _read_sizes(cursor, kind, count)
    payload_crc, tokens_crc = cursor.checksum(), cursor.checksum()
    names: tuple[str, ...] = ()
    for tag, found in cursor.extensions():
        if tag == _NAMES:
            names = _read_names(Cursor(found, what, PART), count)
    return ChunkHeader(
        coder=coder,
        grid=(height, width),
        sizes=sizes,
        payload_bytes=payload,
        payload_crc=payload_crc,
        tokens_crc=tokens_crc,
        names=names,
    )


def _packed_sizes(sizes: Sequence[Size | None]) -> tuple[int, list[int]]:
    """How sizes are written, and the numbers: nothing, one size for all, or one for each, where
    0 x 0 stands for none.
    """
    first = sizes[0]
    if any(size != first for size in sizes):
        return _EACH_SIZE, [side for size in sizes for side in size or (0, 0)]
    return (_NO_SIZES, []) if first is None else (_ONE_SIZE, [*first])


def _read_sizes(cursor: Cursor, kind: int, count: int) -> tuple[Size | None, ...]:
    if kind == _NO_SIZES:
        return (None,) * count
    if kind == _ONE_SIZE:
        return (_read_size(cursor),) * count
    if kind == _EACH_SIZE:
        return tuple(_read_size(cursor) for _ in range(count))
    raise cursor.wrong(f"sizes are written in a way ({kind}) that is not known")


def _read_size(cursor: Cursor) -> Size | None:
    height, width = cursor.varint(2**31 - 1), cursor.varint(2**31 - 1)
    return (height, width) if height and width else None


def _read_names(cursor: Cursor, count: int) -> tuple[str, ...]:
    texts = [cursor.take(cursor.varint()) for _ in range(count)]
    try:
        return tuple(text.decode() for text in texts)
    except UnicodeDecodeError:
        raise cursor.wrong("a name in it is not UTF-8") from None
