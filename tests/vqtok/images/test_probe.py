"""What the header says: format, size, orientation and the limits, before any pixel is decoded."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tests.vqtok.picture_files import GREY, RGB, chunk, noise, png, saved, tiff, tiff_tags
from vqtok.errors import BrokenImage, TooLarge, UnsupportedImage
from vqtok.images import ImageHeader, ImageLimits, probe, read_image
from vqtok.images.formats import bmp, jpeg
from vqtok.images.formats import tiff as tiff_format
from vqtok.images.formats.header import MAX_BLOCKS

PICTURE = Image.fromarray(noise(23, 37))
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_is_known_by_its_bytes(format: str) -> None:
    header = probe(saved(PICTURE, format))
    assert (header.format, header.width, header.height) == (format.lower(), 37, 23)
    assert (header.size, header.pixels, header.orientation) == ((23, 37), 851, 1)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 50}, {"exif": b"Exif\0\0MM"}])
@pytest.mark.parametrize("size", [(1, 1), (300, 257)])
def test_every_kind_of_webp_states_its_size(
    size: tuple[int, int], options: dict[str, bytes]
) -> None:
    assert probe(saved(Image.new("RGB", size), "WEBP", **options)).size == size[::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_size_is_that_of_the_upright_picture(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    header = probe(saved(PICTURE, format, exif=exif))
    assert header.orientation == orientation
    assert header.size == ((37, 23) if orientation > 4 else (23, 37))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "value"), [("H", 6), ("I", 6), ("H", 0), ("H", 9), ("H", 65535)])
def test_an_orientation_out_of_range_means_upright(order: str, kind: str, value: int) -> None:
    code = {"H": 3, "I": 4}[kind]
    entry = struct.pack(order + "HHI" + kind, 274, code, 1, value).ljust(12, b"\0")
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    exif = start + struct.pack(order + "H", 1) + entry + bytes(4)
    header = probe(png((2, 2), 8, GREY, [b"\0\0"] * 2, chunk(b"eXIf", exif)))
    assert header.orientation == (value if value == 6 else 1)


@pytest.mark.parametrize("end", range(0, 26, 3))
def test_damaged_exif_means_upright(end: int) -> None:
    exif = Image.Exif()
    exif[274] = 6
    block = exif.tobytes()[:end]
    assert probe(png((2, 2), 8, GREY, [b"\0\0"] * 2, chunk(b"eXIf", block))).orientation == 1


def test_xmp_counts_where_exif_says_nothing() -> None:
    xmp = chunk(
        b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='1' tiff:Orientation=\"8\"/>"
    )
    assert probe(png((2, 2), 8, GREY, [b"\0\0"] * 2, xmp)).orientation == 8
    exif = Image.Exif()
    exif[274] = 3
    both = (xmp, chunk(b"eXIf", exif.tobytes()[6:]))
    assert probe(png((2, 2), 8, GREY, [b"\0\0"] * 2, *both)).orientation == 3


def test_exif_after_the_pixels_counts() -> None:
    exif = Image.Exif()
    exif[274] = 8
    plain = png((2, 2), 8, GREY, [b"\0\0"] * 2)
    late = plain[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + plain[-12:]
    assert probe(late).orientation == 8
    assert read_image(late).shape == (2, 2, 3)


def test_the_first_picture_of_a_multi_picture_file_is_a_jpeg() -> None:
    data = saved(PICTURE, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    assert probe(data) == ImageHeader("jpeg", 37, 23)
    np.testing.assert_array_equal(read_image(data), read_image(saved(PICTURE, "JPEG")))


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
def test_tiff_is_read_in_both_byte_orders_and_with_long_offsets(order: str, big: bool) -> None:
    pixels = noise(5, 4)
    data = tiff(tiff_tags((5, 4), [8, 8, 8], 2), pixels.tobytes(), order=order, big=big)
    assert probe(data).size == (5, 4)
    np.testing.assert_array_equal(read_image(data), pixels)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 100,
        b"<html></html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"qoif" + bytes(20),
        saved(PICTURE, "ICO", sizes=[(16, 16)]),
        saved(PICTURE, "PPM"),
        saved(PICTURE, "TGA"),
        tiff(tiff_tags((1, 1), [8], 1), b"\0", order=">", big=True),
    ],
    ids=["zeros", "html", "svg", "wave", "qoi", "ico", "ppm", "tga", "big-endian BigTIFF"],
)
def test_everything_else_is_unsupported_with_what_is_taken(data: bytes) -> None:
    with pytest.raises(UnsupportedImage, match="JPEG, PNG, WebP, GIF, BMP and TIFF"):
        probe(data)


def test_nothing_at_all_is_a_broken_image() -> None:
    with pytest.raises(BrokenImage, match="0 bytes"):
        probe(b"")


@pytest.mark.parametrize("format", FORMATS)
def test_a_header_cut_short_is_a_broken_image(format: str) -> None:
    for end in range(6, 24):
        with pytest.raises((BrokenImage, UnsupportedImage)):
            probe(saved(PICTURE, format)[:end])


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0), (2**31, 1)])
def test_a_side_of_nothing_or_of_too_much_is_a_broken_image(size: tuple[int, int]) -> None:
    with pytest.raises(BrokenImage, match="states a size"):
        probe(png(size, 8, RGB, []))


def test_the_limit_is_held_against_the_header_and_names_its_setting() -> None:
    lie = png((30_000, 30_000), 8, RGB, [b""])
    with pytest.raises(TooLarge, match="900000000 pixels") as caught:
        read_image(lie)
    assert (caught.value.limit, caught.value.setting) == (16_000_000, "max_pixels")


def test_the_limit_is_ours_and_not_that_of_the_decoder() -> None:
    data = saved(Image.new("1", (40_000, 5_000)), "PNG")
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS * 2 < 40_000 * 5_000
    with pytest.raises(TooLarge):
        read_image(data, ImageLimits(max_pixels=40_000 * 5_000 - 1))
    assert probe(data).pixels == 40_000 * 5_000


@pytest.mark.parametrize("format", FORMATS)
def test_exactly_the_limit_is_taken(format: str) -> None:
    data = saved(PICTURE, format)
    assert read_image(data, ImageLimits(max_pixels=851)).shape == (23, 37, 3)
    with pytest.raises(TooLarge):
        read_image(data, ImageLimits(max_pixels=850))


def test_a_first_gif_frame_beyond_the_screen_counts_before_it_is_decoded() -> None:
    data = bytearray(saved(Image.new("P", (8, 8)), "GIF"))
    frame = data.index(b"\x2c")
    data[frame + 1 : frame + 9] = struct.pack("<HHHH", 60_000, 60_000, 8, 8)
    assert probe(bytes(data)).size == (60_008, 60_008)
    with pytest.raises(TooLarge):
        read_image(bytes(data))


def test_a_bitmap_from_top_to_bottom_is_read() -> None:
    data = bytearray(saved(PICTURE, "BMP"))
    data[22:26] = struct.pack("<i", -23)
    assert probe(bytes(data)).size == (23, 37)
    np.testing.assert_array_equal(read_image(bytes(data)), np.asarray(PICTURE)[::-1])


def test_a_bitmap_of_os2_is_read() -> None:
    head = struct.pack("<2sIHHI", b"BM", 34, 0, 0, 26) + struct.pack("<IHHHH", 12, 1, 2, 1, 24)
    data = head + b"\1\2\3\0" + b"\4\5\6\0"
    assert read_image(data).tolist() == [[[6, 5, 4]], [[3, 2, 1]]]


def test_very_many_tiny_blocks_are_refused() -> None:
    blocks = MAX_BLOCKS + 2
    gif = saved(Image.new("P", (2, 2)), "GIF")
    frame = gif.index(b"\x2c")
    webp = saved(PICTURE, "WEBP")
    for data in (
        b"\xff\xd8" + b"\xff\xfe\0\2" * blocks + saved(PICTURE, "JPEG")[2:],
        png((1, 1), 8, GREY, [b"\0"], chunk(b"prVt", b"") * blocks),
        gif[:frame] + b"\x21\xfe\1x\0" * blocks + gif[frame:],
        gif[:frame] + b"\x21\xfe" + b"\1x" * blocks + b"\0" + gif[frame:],
        webp + b"junk\0\0\0\0" * blocks,
    ):
        with pytest.raises(BrokenImage, match="blocks"):
            probe(data)


def test_a_progressive_file_with_more_scans_than_any_encoder_writes_is_refused() -> None:
    data = saved(Image.new("L", (1000, 1000)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert read_image(data[:-2] + scan * 3 + data[-2:]).shape == (1000, 1000, 3)
    with pytest.raises(BrokenImage, match="scans"):
        probe(data[:-2] + scan * (jpeg.MAX_SCAN_PIXELS // 1_000_000) + data[-2:])


def test_a_long_run_length_bitmap_is_refused() -> None:
    data = bytearray(saved(Image.new("P", (4, 4)), "BMP"))
    data[30:34] = struct.pack("<I", 1)
    with pytest.raises(BrokenImage, match="run-length"):
        probe(bytes(data) + bytes(bmp.MAX_RUN_LENGTH_BYTES))


@pytest.mark.parametrize(
    ("tag", "values", "words"),
    [
        (322, [60_000], "tiles"),
        (258, [8] * 70_000, "outside the file|do not fit"),
        (277, [3, 3], "instead of one"),
    ],
)
def test_a_tiff_directory_that_harms_a_decoder_is_refused(
    tag: int, values: list[int], words: str
) -> None:
    tags = {**tiff_tags((2, 2), [8, 8, 8], 2), 323: (3, [60_000]), tag: (3, values)}
    data = tiff(tags, bytes(12))
    with pytest.raises(BrokenImage, match=words):
        probe(data[: len(data) - 50_000] if len(values) > 2 else data)


def test_what_does_not_make_pixels_never_reaches_the_decoder() -> None:
    exif = Image.Exif()
    exif[274], exif[270] = 6, "a secret place"
    for data, module in (
        (saved(PICTURE, "JPEG", exif=exif, comment="a secret place"), jpeg),
        (saved(PICTURE, "TIFF", exif=exif), tiff_format),
    ):
        trimmed = module.essential(data)
        with Image.open(io.BytesIO(trimmed)) as picture:
            assert picture.size == (37, 23)
            assert dict(picture.getexif()).keys().isdisjoint({270, 274})
            assert "comment" not in picture.info
