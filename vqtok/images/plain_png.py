"""The PNG that most programs write, 8 bits of red, green and blue, without the ceremony of opening
a file: for a small picture that takes twice as long as its pixels.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vqtok.images.formats.header import UPRIGHT, ImageHeader
from vqtok.images.pixels import BAND_PIXELS

RGB_8_BITS = bytes([8, 2, 0, 0, 0])
FIRST_CHUNK = b"\0\0\0\rIHDR"
PIXELS_BEGIN = 33


def decode_plain_png(data: bytes, header: ImageHeader) -> NDArray[np.uint8] | None:
    """Pixels (H, W, 3) by Pillow's own decoder, or None for a file that Pillow has to judge: any
    but a whole and plain one, of few pixels.
    """
    if header.orientation != UPRIGHT or header.pixels > BAND_PIXELS:
        return None
    packed = _packed_pixels(data)
    if packed is None:
        return None
    size = (header.width, header.height)
    image = Image.core.new("RGB", size)
    decoder = Image.core.zip_decoder("RGB", "RGB")
    decoder.setimage(image, (0, 0, *size))
    consumed, error = decoder.decode(packed)
    # A negative count says that the picture is complete.
    if consumed >= 0 or error:
        return None
    encoder = Image.core.raw_encoder("RGB", "RGB")
    encoder.setimage(image, (0, 0, *size))
    num_bytes = 3 * header.pixels
    _, error, pixels = encoder.encode(num_bytes)
    if error < 0 or len(pixels) != num_bytes:
        return None
    return np.frombuffer(pixels, np.uint8).reshape(*header.size, 3)


def _packed_pixels(data: bytes) -> bytes | None:
    """The content of all IDAT chunks of a file that has no other chunk which makes pixels."""
    is_plain = data[8:16] == FIRST_CHUNK and data[24:29] == RGB_8_BITS
    if not is_plain or zlib.crc32(data[12:29]) != int.from_bytes(data[29:33], "big"):
        return None
    parts: list[bytes] = []
    position = PIXELS_BEGIN
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IEND":
            return b"".join(parts)
        if kind == b"IDAT":
            parts.append(data[position + 8 : position + 8 + length])
        elif kind == b"tRNS" or kind[:1].isupper():
            return None
        position += 12 + length
    return None
