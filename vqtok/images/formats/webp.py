"""WebP: the chunks of its RIFF container. Of an animation only the first frame is decoded."""

import struct
from collections.abc import Iterator

from vqtok.errors import BrokenImage
from vqtok.images.formats import exif
from vqtok.images.formats.header import ImageHeader, guard_blocks

SIGNATURES = (b"RIFF",)
DESCRIBES = frozenset({b"EXIF", b"XMP ", b"ICCP"})


def read_header(data: bytes) -> ImageHeader:
    """Size of the canvas, and the orientation.

    Raises:
        BrokenImage: the container begins with no picture.
        struct.error: the header is cut short.
    """
    width, height = _canvas(data)
    blocks = {kind: data[start:end] for kind, start, end in _chunks(data) if kind in DESCRIBES}
    turn = exif.orientation(blocks.get(b"EXIF", b""), blocks.get(b"XMP ", b""))
    return ImageHeader("webp", width, height, turn)


def essential(data: bytes) -> bytes:
    """The file itself: its decoder does not look at the chunks that only describe."""
    return data


def _canvas(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
        return (low_width | high_width << 16) + 1, (low_height | high_height << 16) + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise BrokenImage("The WebP file begins with no picture.")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    position, count = 12, 0
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        yield kind, position + 8, position + 8 + length
        position += 8 + length + (length & 1)
        count += 1
        guard_blocks(count)
