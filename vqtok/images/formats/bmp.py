"""BMP: one header, in its old and its newer sizes."""

import struct

from vqtok.errors import BrokenImage
from vqtok.images.formats.header import ImageHeader

SIGNATURES = (b"BM",)
OLD_HEADER = 12
RUN_LENGTH = frozenset({1, 2})
MAX_RUN_LENGTH_BYTES = 4 * 2**20
"""Pillow decodes run lengths in Python, one step for every two bytes."""


def read_header(data: bytes) -> ImageHeader:
    """Size of the bitmap; a negative height means top to bottom.

    Raises:
        BrokenImage: a run-length file that would take seconds to decode.
        struct.error: the header is cut short.
    """
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == OLD_HEADER:
        width, height = struct.unpack_from("<HH", data, 18)
        return ImageHeader("bmp", width, height)
    width, height = struct.unpack_from("<Ii", data, 18)
    (compression,) = struct.unpack_from("<I", data, 30)
    if compression in RUN_LENGTH and len(data) > MAX_RUN_LENGTH_BYTES:
        raise BrokenImage(
            "The BMP file is run-length coded and longer than"
            f" {MAX_RUN_LENGTH_BYTES} bytes: save it as PNG."
        )
    return ImageHeader("bmp", width, abs(height))


def essential(data: bytes) -> bytes:
    """The file itself: a bitmap carries nothing else."""
    return data
