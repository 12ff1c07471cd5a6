"""JPEG: the segments before the first scan. Of a multi-picture file only the first picture
exists.
"""

import struct
from collections.abc import Iterator

from vqtok.errors import BrokenImage
from vqtok.images.formats import exif
from vqtok.images.formats.header import ImageHeader, guard_blocks

SIGNATURES = (b"\xff\xd8\xff",)
XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"

APP0, APP1, ADOBE, APP15, COMMENT = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
WITHOUT_LENGTH = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

MAX_SCAN_PIXELS = 1_000_000_000
"""Scans times pixels. Each scan of a progressive file visits every pixel; real files have a
dozen.
"""


def read_header(data: bytes) -> ImageHeader:
    """Frame size, sample depth and orientation.

    Raises:
        BrokenImage: no frame header before the pixels, or more scans than any encoder writes.
        struct.error: the header is cut short.
    """
    frame: tuple[int, int, int] | None = None
    exif_block = xmp_block = b""
    for marker, start, end in _segments(data):
        if marker in START_OF_FRAME and frame is None:
            frame = struct.unpack_from(">BHH", data, start)
        elif marker == APP1 and not exif_block and data.startswith(exif.EXIF_PREFIX, start):
            exif_block = data[start:end]
        elif marker == APP1 and not xmp_block and data.startswith(XMP_PREFIX, start):
            xmp_block = data[start:end]
    if frame is None:
        raise BrokenImage("The JPEG file has no frame header before its pixels.")
    bits, height, width = frame
    if data.count(b"\xff\xda") * width * height > MAX_SCAN_PIXELS:
        raise BrokenImage("The JPEG file has more scans than any encoder writes.")
    return ImageHeader("jpeg", width, height, exif.orientation(exif_block, xmp_block), bits)


def essential(data: bytes) -> bytes:
    """The same picture without EXIF, thumbnails, colour profile and comments."""
    kept = [b"\xff\xd8"]
    scan = len(data)
    for marker, start, end in _segments(data):
        if marker == START_OF_SCAN:
            scan = start - 4
            break
        describes = APP0 < marker <= APP15 and marker != ADOBE
        if not describes and marker != COMMENT:
            kept.append(data[start - 4 : end])
    kept.append(data[scan:])
    return b"".join(kept)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Each segment up to the first scan, inclusive, as (marker, start, end) of what follows its
    length.
    """
    position, count = 2, 0
    while (position := data.find(b"\xff", position)) >= 0 and position + 4 <= len(data):
        marker = data[position + 1]
        if marker == 0xFF or marker == 0 or marker in WITHOUT_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        if marker == END_OF_IMAGE:
            return
        (length,) = struct.unpack_from(">H", data, position + 2)
        end = position + 2 + length
        yield marker, position + 4, end
        if marker == START_OF_SCAN:
            return
        position = end
        count += 1
        guard_blocks(count)
