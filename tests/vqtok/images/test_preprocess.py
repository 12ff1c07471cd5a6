"""Fitting pictures to a grid: each mode against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.vqtok.picture_files import noise
from vqtok.errors import InvalidParameter
from vqtok.images import PREPROCESS, planned_size, preprocess
from vqtok.images import preprocess as package_function

RESIZING = ["resize", "center_crop", "adm_center_crop"]


def adm_reference(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """`center_crop_arr` as openai/guided-diffusion has it."""
    picture = Image.fromarray(image)
    while min(*picture.size) >= 2 * side:
        halved = picture.width // 2, picture.height // 2
        picture = picture.resize(halved, resample=Image.Resampling.BOX)
    scale = side / min(*picture.size)
    scaled = round(picture.width * scale), round(picture.height * scale)
    picture = picture.resize(scaled, resample=Image.Resampling.BICUBIC)
    pixels = np.array(picture)
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[top : top + side, left : left + side]


@given(
    st.sampled_from(list(PREPROCESS)),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([1, 4, 8]),
)
def test_the_plan_is_what_comes_out_and_fits_the_grid(
    mode: str, height: int, width: int, factor: int
) -> None:
    image = noise(height, width)
    try:
        planned = planned_size((height, width), mode, factor, 16)
    except InvalidParameter:
        assert mode == "exact"
        assert height % factor or width % factor
        return
    prepared = preprocess(image, mode, factor=factor, image_size=16)
    assert prepared.pixels.shape == (*planned, 3)
    assert prepared.pixels.dtype == np.uint8
    assert prepared.pixels.flags.c_contiguous
    assert planned[0] % factor == planned[1] % factor == 0
    assert prepared.size == ((16, 16) if mode in RESIZING else (height, width))


def test_exact_changes_nothing_and_names_the_factor() -> None:
    image = noise(8, 12)
    assert preprocess(image, "exact", factor=4).pixels is image
    with pytest.raises(InvalidParameter, match="multiples of 8; the picture is 8 x 12"):
        preprocess(image, "exact", factor=8)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 16))
def test_pad_repeats_the_last_row_and_column(height: int, width: int, factor: int) -> None:
    image = noise(height, width)
    prepared = preprocess(image, factor=factor)
    rows = np.minimum(np.arange(prepared.pixels.shape[0]), height - 1)
    columns = np.minimum(np.arange(prepared.pixels.shape[1]), width - 1)
    np.testing.assert_array_equal(prepared.pixels, image[rows][:, columns])
    assert prepared.pixels.shape[0] - height < factor
    assert prepared.pixels.shape[1] - width < factor


def test_pad_of_a_fitting_picture_is_the_picture() -> None:
    image = noise(8, 12)
    assert preprocess(image, "pad", factor=4).pixels is image


def test_resize_is_that_of_pillow() -> None:
    image = noise(50, 70)
    expected = Image.fromarray(image).resize((48, 32), Image.Resampling.BICUBIC)
    prepared = preprocess(image, "resize", factor=4, image_size=(32, 48))
    np.testing.assert_array_equal(prepared.pixels, np.asarray(expected))
    assert prepared.size == (32, 48)


def test_center_crop_of_the_same_shape_is_a_resize() -> None:
    image = noise(64, 96)
    cropped = preprocess(image, "center_crop", factor=4, image_size=(32, 48))
    resized = preprocess(image, "resize", factor=4, image_size=(32, 48))
    np.testing.assert_array_equal(cropped.pixels, resized.pixels)


def test_center_crop_takes_the_middle() -> None:
    image = noise(32, 96)
    cropped = preprocess(image, "center_crop", factor=4, image_size=32)
    np.testing.assert_array_equal(cropped.pixels, image[:, 32:64])
    cropped = preprocess(image.swapaxes(0, 1), "center_crop", factor=4, image_size=32)
    np.testing.assert_array_equal(cropped.pixels, image.swapaxes(0, 1)[32:64])


@pytest.mark.parametrize("shape", [(64, 64), (65, 200), (300, 31), (32, 33), (20, 20), (257, 129)])
def test_adm_center_crop_is_that_of_adm(shape: tuple[int, int]) -> None:
    image = noise(*shape)
    cropped = preprocess(image, "adm_center_crop", factor=4, image_size=32)
    np.testing.assert_array_equal(cropped.pixels, adm_reference(image, 32))


@pytest.mark.parametrize("mode", RESIZING)
@pytest.mark.parametrize("image_size", [None, 0, -8, 30, (32, 30), (0, 32)])
def test_an_image_size_that_does_not_fit_the_grid_is_refused(
    mode: str, image_size: int | tuple[int, int] | None
) -> None:
    with pytest.raises(InvalidParameter, match="image_size"):
        planned_size((50, 50), mode, 4, image_size)


def test_adm_center_crop_is_square() -> None:
    with pytest.raises(InvalidParameter, match="square"):
        planned_size((50, 50), "adm_center_crop", 4, (32, 48))


def test_a_picture_too_long_for_adm_center_crop_is_refused() -> None:
    assert planned_size((1000, 10), "adm_center_crop", 4, 32) == (32, 32)
    with pytest.raises(InvalidParameter, match="too long"):
        planned_size((1, 60_000), "adm_center_crop", 4, 32)


@pytest.mark.parametrize("shape", [(60_000, 1), (1, 60_000)])
@pytest.mark.parametrize("mode", ["resize", "center_crop"])
def test_a_very_long_picture_is_resized_in_little_memory(mode: str, shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 7, np.uint8)
    prepared = preprocess(image, mode, factor=4, image_size=1024)
    assert (prepared.pixels == 7).all()


def test_the_order_of_the_two_passes_changes_hardly_a_pixel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = noise(90, 40)
    usual = preprocess(image, "center_crop", factor=4, image_size=32).pixels.astype(int)
    module = package_function.__globals__
    monkeypatch.setitem(module, "MAX_INTERMEDIATE_PIXELS", 0)
    other = preprocess(image, "center_crop", factor=4, image_size=32).pixels.astype(int)
    assert np.abs(usual - other).max() <= 2


@pytest.mark.parametrize("mode", ["", "crop", "PAD"])
def test_an_unknown_mode_is_refused_with_the_known_ones(mode: str) -> None:
    with pytest.raises(InvalidParameter, match="exact, pad, resize, center_crop, adm_center_crop"):
        planned_size((8, 8), mode, 4)


@pytest.mark.parametrize("size", [(0, 4), (4, 0)])
def test_a_picture_without_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidParameter, match="no pixel"):
        planned_size(size, "pad", 4)
