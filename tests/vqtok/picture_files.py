"""Image files made on the spot: by Pillow, and by hand where Pillow would not write them."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
"""Colour types of PNG."""

Tags = dict[int, tuple[int, list[int]]]


def saved(picture: Image.Image, format: str, **options: Any) -> bytes:
    """The bytes of a file as Pillow writes it."""
    target = io.BytesIO()
    picture.save(target, format, **options)
    return target.getvalue()


def noise(height: int = 23, width: int = 37, seed: int = 0) -> NDArray[np.uint8]:
    """Random pixels, uint8 (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(size: tuple[int, int], bits: int, colour: int, rows: list[bytes], *extra: bytes) -> bytes:
    """A PNG file of (height, width) from packed rows of bytes, `extra` chunks before them."""
    header = struct.pack(">IIBBBBB", size[1], size[0], bits, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(tags: Tags, pixels: bytes, *, order: str = "<", big: bool = False) -> bytes:
    """An uncompressed TIFF file in one strip; `tags` are (type, values), its own are added."""
    count, entry, offset = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    magic = struct.pack(order + ("HHH" if big else "H"), *((43, 8, 0) if big else (42,)))
    start = len(magic) + 2 + struct.calcsize(order + offset)
    tags = {**tags, 273: (4, [start]), 279: (4, [len(pixels)])}
    directory = start + len(pixels)
    room = struct.calcsize(order + offset)
    after = directory + struct.calcsize(order + count) + len(tags) * (4 + 2 * room) + room
    entries, values = b"", b""
    for tag, (kind, numbers) in sorted(tags.items()):
        packed = struct.pack(order + {3: "H", 4: "I"}[kind] * len(numbers), *numbers)
        if len(packed) > room:
            values, packed = values + packed, struct.pack(order + offset, after + len(values))
        entries += struct.pack(order + entry, tag, kind, len(numbers)) + packed.ljust(room, b"\0")
    head = (b"II" if order == "<" else b"MM") + magic + struct.pack(order + offset, directory)
    return head + pixels + struct.pack(order + count, len(tags)) + entries + bytes(room) + values


def tiff_tags(size: tuple[int, int], bits: list[int], photometric: int) -> Tags:
    """The tags that every TIFF file has."""
    return {
        256: (3, [size[1]]),
        257: (3, [size[0]]),
        258: (3, bits),
        259: (3, [1]),
        262: (3, [photometric]),
        277: (3, [len(bits)]),
        278: (3, [size[0]]),
    }
