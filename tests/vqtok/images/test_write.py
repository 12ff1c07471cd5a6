"""Image files that are written are read again."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.vqtok.picture_files import noise
from vqtok.errors import InvalidParameter, NotAcceptable
from vqtok.images import IMAGE_MEDIA_TYPES, probe, read_image, write_image

SMOOTH = np.indices((40, 50)).sum(axis=0)[..., np.newaxis].repeat(3, axis=-1).astype(np.uint8)


def test_png_brings_back_every_pixel() -> None:
    np.testing.assert_array_equal(read_image(write_image(noise())), noise())


@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_the_others_bring_back_nearly_every_pixel(format: str) -> None:
    back = read_image(write_image(SMOOTH, format, quality=95))
    assert np.abs(back.astype(int) - SMOOTH).max() <= 4


@pytest.mark.parametrize(("media_type", "format"), IMAGE_MEDIA_TYPES.items())
def test_a_media_type_is_what_the_bytes_are(media_type: str, format: str) -> None:
    data = write_image(noise(), format)
    assert probe(data).format == format
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.get_format_mimetype() == media_type


@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_a_higher_quality_gives_more_bytes(format: str) -> None:
    assert len(write_image(noise(), format, quality=90)) > len(write_image(noise(), format, 10))


def test_a_picture_that_is_no_block_of_memory_is_written_as_it_looks() -> None:
    for format in ("png", "jpeg", "webp"):
        turned = noise()[::-1, ::2]
        assert write_image(turned, format) == write_image(np.ascontiguousarray(turned), format)


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidParameter, match="png, webp, jpeg"):
        write_image(noise(), "bmp")


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_a_quality_out_of_range_is_refused(quality: int) -> None:
    with pytest.raises(InvalidParameter, match=r"1 \.\. 100"):
        write_image(noise(), "jpeg", quality)


@pytest.mark.parametrize(("format", "longest"), [("webp", 16_383), ("jpeg", 65_500)])
def test_a_picture_too_long_for_its_format_is_refused(format: str, longest: int) -> None:
    long = np.zeros((1, longest + 1, 3), np.uint8)
    assert probe(write_image(long[:, 1:], format)).width == longest
    with pytest.raises(NotAcceptable, match="image/png"):
        write_image(long, format)
    assert read_image(write_image(long)).shape == long.shape
