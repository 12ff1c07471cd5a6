"""TIFF: the first directory. Of several pages only the first exists.

With 64-bit offsets (BigTIFF) only little-endian files are taken, since Pillow reads no others.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from vqtok.errors import BrokenImage
from vqtok.images.formats.exif import ORIENTATION_TAG
from vqtok.images.formats.header import UPRIGHT, ImageHeader, guard_blocks

SIGNATURES = (b"II\x2a\0", b"MM\0\x2a", b"II\x2b\0")

WIDTH, HEIGHT, BITS, TILE_WIDTH, TILE_HEIGHT = 256, 257, 258, 322, 323
ONE_VALUE = frozenset({256, 257, 259, 262, 266, 277, 278, 284, 292, 293, 317, 322, 323, 332})
MANY_VALUES = frozenset({258, 273, 279, 320, 324, 325, 338, 339, 347, 529, 530, 531, 532})
TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
}
INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True)
class _Layout:
    """How a directory is written: the byte order, and the widths of its fields."""

    order: str
    count: str
    entry: str
    offset: str

    @staticmethod
    def of(data: bytes) -> "_Layout":
        order = "<" if data[:2] == b"II" else ">"
        return _Layout(order, "Q", "HHQ", "Q") if data[2] == 43 else _Layout(order, "H", "HHI", "I")

    @property
    def value_bytes(self) -> int:
        return struct.calcsize(self.order + self.offset)

    @property
    def entry_bytes(self) -> int:
        return struct.calcsize(self.order + self.entry) + self.value_bytes

    def read(self, fields: str, data: bytes, position: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + fields, data, position)


@dataclass(frozen=True)
class _Entry:
    """A tag: where its entry lies and where its values begin."""

    tag: int
    kind: int
    position: int
    values: int


def read_header(data: bytes) -> ImageHeader:
    """Size, sample depth and orientation of the first page.

    Raises:
        BrokenImage: a directory that points outside the file, or without a size.
        struct.error: the directory is cut short.
    """
    layout = _Layout.of(data)
    stated: dict[int, int] = {}
    for entry in _entries(data, layout):
        if entry.kind in INTEGERS:
            stated[entry.tag] = layout.read(INTEGERS[entry.kind], data, entry.values)[0]
    if WIDTH not in stated or HEIGHT not in stated:
        raise BrokenImage("The TIFF file states no width or no height.")
    # A tile is decoded whole, however little of it the picture covers.
    width, height = stated[WIDTH], stated[HEIGHT]
    tile = stated.get(TILE_WIDTH, 0) * stated.get(TILE_HEIGHT, 0)
    if tile > max(2 * width * height, 2**20):
        raise BrokenImage("The TIFF file has tiles much larger than the picture.")
    turn = stated.get(ORIENTATION_TAG, UPRIGHT)
    turn = turn if 1 <= turn <= 8 else UPRIGHT
    return ImageHeader("tiff", width, height, turn, stated.get(BITS, 1))


def essential(data: bytes) -> bytes:
    """The same first page with a directory of only those tags that make pixels, stored upright,
    and no further page.
    """
    layout = _Layout.of(data)
    directory, first = _directory(data, layout)
    kept = [
        data[entry.position : entry.position + layout.entry_bytes]
        for entry in _entries(data, layout)
        if entry.tag != ORIENTATION_TAG
    ]
    trimmed = bytearray(data)
    struct.pack_into(layout.order + layout.count, trimmed, directory, len(kept))
    end = first + layout.entry_bytes * len(kept)
    trimmed[first:end] = b"".join(kept)
    trimmed[end : end + layout.value_bytes] = bytes(layout.value_bytes)
    return bytes(trimmed)


def _directory(data: bytes, layout: _Layout) -> tuple[int, int]:
    """Where the first directory and its first entry begin."""
    (directory,) = layout.read(layout.offset, data, layout.value_bytes)
    if directory >= len(data):
        raise BrokenImage("The TIFF file is cut short: it has no directory.")
    return directory, directory + struct.calcsize(layout.order + layout.count)


def _entries(data: bytes, layout: _Layout) -> Iterator[_Entry]:
    """The first entry of each tag that counts."""
    directory, position = _directory(data, layout)
    (count,) = layout.read(layout.count, data, directory)
    guard_blocks(count)
    seen: set[int] = set()
    total = 0
    for _ in range(count):
        tag, kind, number = layout.read(layout.entry, data, position)
        wanted = tag in ONE_VALUE or tag in MANY_VALUES or tag == ORIENTATION_TAG
        if wanted and tag not in seen and kind in TYPE_BYTES:
            seen.add(tag)
            total += TYPE_BYTES[kind] * number
            if total > len(data):
                raise BrokenImage("The values of the TIFF directory do not fit into the file.")
            yield _Entry(tag, kind, position, _values(data, layout, (tag, kind, number), position))
        position += layout.entry_bytes


def _values(data: bytes, layout: _Layout, entry: tuple[int, int, int], position: int) -> int:
    """Where the values of an entry begin, all of them being inside the file: a decoder only
    warns.
    """
    tag, kind, number = entry
    inline = position + layout.entry_bytes - layout.value_bytes
    size = TYPE_BYTES[kind] * number
    start = inline if size <= layout.value_bytes else layout.read(layout.offset, data, inline)[0]
    if number == 0 or start + size > len(data):
        raise BrokenImage(f"The values of TIFF tag {tag} lie outside the file.")
    if number > 1 and tag in ONE_VALUE:
        raise BrokenImage(f"TIFF tag {tag} has {number} values instead of one.")
    return start
