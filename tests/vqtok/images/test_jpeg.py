"""JPEG: the fast decoder gives Pillow's pixels, and Pillow judges what it refuses."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.vqtok.picture_files import noise, saved
from vqtok.errors import BrokenImage
from vqtok.images import probe, read_image
from vqtok.images.read import decode_jpeg

JPEG_SIGNATURE = b"\xff\xd8\xff"


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    """Pixels as Pillow gives them by default, as stored."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
        return np.asarray(picture.convert("RGB"))


def test_every_real_file_has_pillows_pixels(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((data_dir / "odd-images" / "valid").rglob("*"))
    compared = 0
    for file in files:
        data = file.read_bytes() if file.is_file() else b""
        if not data.startswith(JPEG_SIGNATURE):
            continue
        header = probe(data)
        fast = decode_jpeg(data, header)
        if fast is not None and header.orientation == 1:
            np.testing.assert_array_equal(fast, by_pillow(data), err_msg=file.name)
            compared += 1
    with capsys.disabled():
        print(f"\n{compared} JPEG files compared pixel by pixel")  # noqa: T201
    assert compared >= 40


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 100),
    st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    st.booleans(),
    st.booleans(),
)
def test_any_encoding_has_pillows_pixels(
    height: int, width: int, quality: int, subsampling: str, progressive: bool, grey: bool
) -> None:
    picture = Image.fromarray(noise(height, width))
    picture = picture.convert("L") if grey else picture
    options = {"quality": quality, "subsampling": subsampling, "progressive": progressive}
    data = saved(picture, "JPEG", **options)
    fast = decode_jpeg(data, probe(data))
    assert fast is not None
    np.testing.assert_array_equal(fast, by_pillow(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_file_cut_short_is_broken_and_never_grey(progressive: bool) -> None:
    data = saved(Image.fromarray(noise(64, 64)), "JPEG", quality=90, progressive=progressive)
    for end in range(20, len(data) - 2, 97):
        with pytest.raises(BrokenImage):
            read_image(data[:end])


def test_inks_are_left_to_pillow() -> None:
    data = saved(Image.fromarray(noise()).convert("CMYK"), "JPEG")
    assert decode_jpeg(data, probe(data)) is None
    np.testing.assert_array_equal(read_image(data), by_pillow(data))


def test_damage_that_pillow_forgives_is_forgiven() -> None:
    data = saved(Image.fromarray(noise(64, 64)), "JPEG", quality=90)
    middle = len(data) // 2
    damaged = data[:middle] + bytes([data[middle] ^ 1 or 2]) + data[middle + 1 :]
    np.testing.assert_array_equal(read_image(damaged), by_pillow(damaged))
