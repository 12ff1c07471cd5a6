"""Each rule by which stored samples become RGB, against the arithmetic that states it."""

import struct

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.vqtok.picture_files import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGB_ALPHA,
    chunk,
    noise,
    png,
    saved,
    tiff,
    tiff_tags,
)
from vqtok.errors import UnsupportedImage
from vqtok.images import ImageLimits, pixels, read_image

PIXELS = noise()
RAMP = np.arange(256, dtype=np.uint8)


def on_white(colour: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The rule for alpha in exact arithmetic."""
    share = alpha[..., np.newaxis].astype(np.float64) / 255
    return np.floor(colour * share + 255 * (1 - share) + 0.5).astype(np.uint8)


@pytest.mark.parametrize(
    ("format", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}),
     ("WEBP", {"lossless": True})],
)  # fmt: skip
def test_rgb_stays_as_it_is(format: str, options: dict[str, str]) -> None:
    read = read_image(saved(Image.fromarray(PIXELS), format, **options))
    np.testing.assert_array_equal(read, PIXELS, strict=True)
    assert read.flags.c_contiguous


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_the_picture_is_turned_upright(format: str, orientation: int) -> None:
    turns = {
        1: PIXELS, 2: PIXELS[:, ::-1], 3: PIXELS[::-1, ::-1], 4: PIXELS[::-1],
        5: PIXELS.swapaxes(0, 1), 6: np.rot90(PIXELS, -1),
        7: PIXELS[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(PIXELS),
    }  # fmt: skip
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(PIXELS)
    if format == "JPEG":
        upright = read_image(saved(stored, "JPEG", quality=90))
        turns = {
            key: upright[tuple(np.moveaxis(_positions(value), -1, 0))]
            for key, value in turns.items()
        }
        read = read_image(saved(stored, "JPEG", quality=90, exif=exif))
    else:
        read = read_image(saved(stored, format, exif=exif))
    np.testing.assert_array_equal(read, turns[orientation], strict=True)
    assert read.flags.c_contiguous


def _positions(turned: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Where each pixel of a turned view of PIXELS lies in PIXELS."""
    offset = (turned.__array_interface__["data"][0] - PIXELS.__array_interface__["data"][0]) // 3
    rows, columns = np.indices(turned.shape[:2])
    flat = offset + rows * (turned.strides[0] // 3) + columns * (turned.strides[1] // 3)
    return np.stack(np.divmod(flat, PIXELS.shape[1]), axis=-1)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF"])
def test_grey_has_the_same_value_in_all_channels(format: str) -> None:
    grey = PIXELS[..., 0]
    read = read_image(saved(Image.fromarray(grey), format))
    np.testing.assert_array_equal(read, np.repeat(grey[..., np.newaxis], 3, axis=-1))


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF"])
def test_one_bit_is_black_and_white(format: str) -> None:
    bits = PIXELS[..., 0] > 127
    read = read_image(saved(Image.fromarray(bits), format))
    np.testing.assert_array_equal(
        read, np.where(bits[..., np.newaxis], 255, 0) * np.ones(3, np.uint8)
    )


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF"])
def test_a_palette_gives_its_colours(format: str) -> None:
    picture = Image.fromarray(PIXELS).quantize(16)
    np.testing.assert_array_equal(
        read_image(saved(picture, format)), np.asarray(picture.convert("RGB"))
    )


def test_alpha_is_put_on_white() -> None:
    colour = np.broadcast_to(RAMP[:, np.newaxis, np.newaxis], (256, 256, 3))
    alpha = np.broadcast_to(RAMP, (256, 256))
    rgba = np.dstack([colour, alpha])
    expected = on_white(colour, alpha)
    for format in ("PNG", "TIFF"):
        np.testing.assert_array_equal(read_image(saved(Image.fromarray(rgba), format)), expected)
    grey = Image.fromarray(np.dstack([colour[..., 0], alpha]), "LA")
    np.testing.assert_array_equal(read_image(saved(grey, "PNG")), expected)


def test_a_transparent_webp_is_put_on_white() -> None:
    rgba = np.dstack([PIXELS, PIXELS[..., 0]])
    data = saved(Image.fromarray(rgba), "WEBP", lossless=True, exact=True)
    np.testing.assert_array_equal(read_image(data), on_white(PIXELS, PIXELS[..., 0]))


def test_sixteen_bit_alpha_is_put_on_white() -> None:
    row = struct.pack(">8H", 0x1234, 0x5678, 0x9ABC, 0x8000, 0, 0, 0, 0)
    read = read_image(png((1, 2), 16, RGB_ALPHA, [row]))
    expected = on_white(np.array([[[0x12, 0x56, 0x9A]]], np.uint8), np.array([[0x80]], np.uint8))
    np.testing.assert_array_equal(read[:, :1], expected)
    assert read[0, 1].tolist() == [255, 255, 255]
    grey = read_image(png((1, 1), 16, GREY_ALPHA, [struct.pack(">HH", 0x1234, 0xFFFF)]))
    assert grey.tolist() == [[[0x12] * 3]]


@pytest.mark.parametrize("alphas", [b"\0", b"\xff\x80", b"\xff\xff\0"])
def test_a_transparent_palette_is_put_on_white(alphas: bytes) -> None:
    colours = bytes([200, 100, 0, 10, 20, 30, 1, 2, 3])
    data = png((1, 3), 8, PALETTE, [b"\0\1\2"], chunk(b"PLTE", colours), chunk(b"tRNS", alphas))
    palette = np.frombuffer(colours, np.uint8).reshape(1, 3, 3)
    alpha = np.frombuffer(alphas.ljust(3, b"\xff"), np.uint8).reshape(1, 3)
    np.testing.assert_array_equal(read_image(data), on_white(palette, alpha))


def test_the_transparent_colour_of_a_gif_is_white() -> None:
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    picture.putpalette([200, 100, 0, 10, 20, 30])
    data = saved(picture, "GIF", transparency=0)
    assert read_image(data).tolist() == [[[255, 255, 255], [10, 20, 30]]]


@pytest.mark.parametrize(
    ("bits", "row", "key", "expected"),
    [
        (1, b"\x80", 1, [255, 0]),
        (1, b"\x80", 0, [255, 255]),
        (2, b"\x60", 1, [255, 170]),
        (4, b"\x5a", 5, [255, 170]),
        (8, b"\x07\x08", 7, [255, 8]),
        (16, b"\x12\x34\x12\x35", 0x1234, [255, 0x12]),
    ],
)
def test_the_transparent_grey_is_white_at_every_depth(
    bits: int, row: bytes, key: int, expected: list[int]
) -> None:
    data = png((1, 2), bits, GREY, [row], chunk(b"tRNS", struct.pack(">H", key)))
    assert read_image(data)[0, :, 0].tolist() == expected


def test_the_transparent_colour_is_white() -> None:
    transparent = chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))
    read = read_image(png((1, 2), 8, RGB, [b"\1\2\3\1\2\4"], transparent))
    assert read.tolist() == [[[255, 255, 255], [1, 2, 4]]]


def test_the_transparent_sixteen_bit_colour_is_white_by_its_high_bytes() -> None:
    transparent = chunk(b"tRNS", struct.pack(">3H", 0x1122, 0x3344, 0x5566))
    row = struct.pack(">9H", 0x1122, 0x3344, 0x5566, 0x11FF, 0x33FF, 0x55FF, 0x1222, 0x3344, 0x5566)
    read = read_image(png((1, 3), 16, RGB, [row], transparent))
    assert read.tolist() == [[[255] * 3, [255] * 3, [0x12, 0x33, 0x55]]]


def test_sixteen_bits_keep_their_high_byte() -> None:
    values = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    expected = np.repeat((values >> 8).astype(np.uint8)[..., np.newaxis], 3, axis=-1)
    for format in ("PNG", "TIFF"):
        np.testing.assert_array_equal(read_image(saved(Image.fromarray(values), format)), expected)
    rows = [row.astype(">u2").repeat(3).tobytes() for row in values]
    np.testing.assert_array_equal(read_image(png((256, 256), 16, RGB, rows)), expected)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_sixteen_bit_tiff_is_read_in_both_byte_orders(order: str) -> None:
    samples = np.array([[0x1234, 0xFFFF]], order + "u2")
    read = read_image(tiff(tiff_tags((1, 2), [16], 1), samples.tobytes(), order=order))
    assert read[0, :, 0].tolist() == [0x12, 0xFF]


def test_a_tiff_in_which_white_is_zero_is_inverted_at_every_depth() -> None:
    eight = read_image(tiff(tiff_tags((1, 2), [8], 0), b"\x12\xff"))
    sixteen = read_image(tiff(tiff_tags((1, 2), [16], 0), b"\x34\x12\xff\xff"))
    np.testing.assert_array_equal(eight, sixteen)
    assert eight[0, :, 0].tolist() == [255 - 0x12, 0]


def test_a_twelve_bit_tiff_keeps_its_eight_highest_bits() -> None:
    read = read_image(tiff(tiff_tags((1, 2), [12], 1), b"\xab\xcf\xff"))
    assert read[0, :, 0].tolist() == [0xAB, 0xFF]


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_inks_become_rgb_by_the_stated_product(format: str) -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[...] = [64, 128, 192, 32]
    options = {"quality": 100} if format == "JPEG" else {}
    read = read_image(saved(Image.fromarray(inks, "CMYK"), format, **options)).astype(int)
    expected = np.array([(255 - ink) * (255 - 32) / 255 for ink in (64, 128, 192)])
    assert np.abs(read - expected).max() <= (2 if format == "JPEG" else 1)


def test_the_colours_of_a_ycbcr_tiff_become_rgb() -> None:
    picture = Image.fromarray(PIXELS).convert("YCbCr")
    np.testing.assert_array_equal(
        read_image(saved(picture, "TIFF")), np.asarray(picture.convert("RGB"))
    )


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_samples_whose_white_is_not_stated_are_unsupported(mode: str) -> None:
    data = saved(Image.new(mode, (4, 4)), "TIFF")
    with pytest.raises(UnsupportedImage, match="8 or 16 bits a channel"):
        read_image(data)


def test_bands_give_the_same_pixels_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rgba = np.dstack([noise(200, 31), noise(200, 31)[..., 0]])
    data = saved(Image.fromarray(rgba), "PNG")
    whole = read_image(data)
    monkeypatch.setattr(pixels, "BAND_PIXELS", 100)
    np.testing.assert_array_equal(read_image(data, ImageLimits()), whole)


def test_only_the_first_frame_or_page_is_read() -> None:
    first, second = Image.fromarray(PIXELS), Image.new("RGB", (37, 23))
    for format in ("TIFF", "GIF", "PNG", "WEBP"):
        options = {"lossless": True} if format == "WEBP" else {}
        several = saved(first, format, save_all=True, append_images=[second], **options)
        np.testing.assert_array_equal(
            read_image(several), read_image(saved(first, format, **options))
        )


def test_the_colour_profile_is_not_applied() -> None:
    plain = saved(Image.fromarray(PIXELS), "PNG")
    profiled = saved(Image.fromarray(PIXELS), "PNG", icc_profile=b"a profile of some kind")
    assert len(profiled) > len(plain)
    np.testing.assert_array_equal(read_image(profiled), read_image(plain))
