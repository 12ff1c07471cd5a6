"""zip: image files in order, and the same bytes every time."""

import io
import time
import zipfile

import pytest

from vqtok.errors import InvalidParameter
from vqtok.wire import format_size, parse_size, zip_images


def test_the_files_are_numbered_in_order_and_stored() -> None:
    images = [b"first", b"second", b""]
    with zipfile.ZipFile(io.BytesIO(zip_images(images, "png"))) as archive:
        assert archive.testzip() is None
        entries = archive.infolist()
        assert [entry.filename for entry in entries] == ["00000.png", "00001.png", "00002.png"]
        assert [archive.read(entry) for entry in entries] == images
        assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}


def test_the_same_images_give_the_same_bytes_at_another_time() -> None:
    first = zip_images([b"image"], "png")
    time.sleep(2.1)  # the clock of a zip file ticks every two seconds
    assert zip_images([b"image"], "png") == first


@pytest.mark.parametrize("size", [(1, 1), (480, 640), (999_999_999, 1)])
def test_a_size_survives_as_text(size: tuple[int, int]) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    "text", ["", "480", "480X640", "0x4", "-1x4", "4x", "4x4x3", "9" * 50 + "x1"]
)
def test_another_text_is_no_size(text: str) -> None:
    with pytest.raises(InvalidParameter, match="HxW"):
        parse_size(text)
