"""The short way through a plain PNG gives Pillow's pixels, and leaves other files to Pillow."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from vqtok.images import read_image, write_image
from vqtok.images.plain_png import decode_plain_png
from vqtok.images.probe import probe

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 13, 3)).astype(np.uint8)


def _saved(mode: str = "RGB", **options: object) -> bytes:
    target = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(target, "png", **options)
    return target.getvalue()


def _noted() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "of no account")
    return info


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + kind + content + checksum


def _in_small_chunks(data: bytes) -> bytes:
    """The same file with its pixels in chunks of 7 bytes."""
    at = data.index(b"IDAT")
    length = int.from_bytes(data[at - 4 : at], "big")
    packed = data[at + 4 : at + 4 + length]
    small = [_chunk(b"IDAT", packed[i : i + 7]) for i in range(0, length, 7)]
    return data[: at - 4] + b"".join(small) + data[at + 8 + length :]


@pytest.mark.parametrize(
    "data",
    [
        write_image(PIXELS),
        _saved(compress_level=0),
        _saved(compress_level=9),
        _saved(pnginfo=_noted(), dpi=(72, 72)),
        _in_small_chunks(_saved()),
    ],
    ids=["ours", "stored", "packed", "with a comment", "in small chunks"],
)
def test_a_plain_file_is_read_by_it(data: bytes) -> None:
    pixels = decode_plain_png(data, probe(data))
    np.testing.assert_array_equal(pixels, PIXELS)
    np.testing.assert_array_equal(read_image(data), PIXELS)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (257, 255)])
def test_of_any_size(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    data = write_image(pixels)
    np.testing.assert_array_equal(decode_plain_png(data, probe(data)), pixels)


TURNED = Image.Exif()
TURNED[0x0112] = 6

OTHERS = {
    "grey": _saved("L"),
    "palette": _saved("P"),
    "alpha": _saved("RGBA"),
    "transparent colour": _saved(transparency=(1, 2, 3)),
    "turned": _saved(exif=TURNED),
    "cut short": _saved()[:-40],
    "without an end": _saved()[:-12],
    "damaged pixels": bytes(b ^ (i in range(60, 70)) for i, b in enumerate(_saved())),
    "wrong checksum of its header": bytes(b ^ (i == 30) for i, b in enumerate(_saved())),
}


@pytest.mark.parametrize("name", OTHERS)
def test_anything_else_is_left_to_pillow(name: str) -> None:
    data = OTHERS[name]
    assert decode_plain_png(data, probe(data)) is None


def test_an_interlaced_file_is_left_to_pillow() -> None:
    data = bytearray(_saved())
    data[28] = 1
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    assert decode_plain_png(bytes(data), probe(bytes(data))) is None
