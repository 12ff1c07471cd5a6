"""PNG: the chunks. Of an animation only the default image exists."""

import struct
from collections.abc import Iterator

from vqtok.images.formats import exif
from vqtok.images.formats.header import ImageHeader, guard_blocks

SIGNATURES = (b"\x89PNG\r\n\x1a\n",)
XMP_PREFIX = b"XML:com.adobe.xmp\0\0\0"
MAKES_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})


def read_header(data: bytes) -> ImageHeader:
    """Size, sample depth and orientation; EXIF counts before and after the pixels.

    Raises:
        struct.error: the header is cut short.
    """
    width, height, bits = struct.unpack_from(">IIB", data, 16)
    exif_block = xmp_block = b""
    for kind, start, end in _chunks(data):
        if kind == b"eXIf":
            exif_block = data[start:end]
        elif kind == b"iTXt" and data.startswith(XMP_PREFIX, start):
            xmp_block = data[start:end]
    return ImageHeader("png", width, height, exif.orientation(exif_block, xmp_block), bits)


def essential(data: bytes) -> bytes:
    """The same picture without text, colour profile, animation and private chunks."""
    kept = [data[start - 8 : end + 4] for kind, start, end in _chunks(data) if kind in MAKES_PIXELS]
    return SIGNATURES[0] + b"".join(kept)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk up to the last as (type, start, end) of its content; the last may be cut short."""
    position, count = 8, 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        yield kind, position + 8, position + 8 + length
        if kind == b"IEND":
            return
        position += 12 + length
        count += 1
        guard_blocks(count)
