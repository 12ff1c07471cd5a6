"""Pictures as callers hand them in, whatever they hold them in."""

import io
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vqtok.errors import InvalidInput, InvalidParameter, TooLarge, UnsupportedImage
from vqtok.images import PREPROCESS, ImageLimits, read_image

ImageSource = bytes | str | Path | NDArray[np.uint8] | Image.Image
"""The bytes of an image file, a path to one, uint8 RGB (H, W, 3), or a Pillow image."""

_ORIENTATION = 0x0112
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


def load_picture(source: ImageSource, limits: ImageLimits) -> NDArray[np.uint8]:
    """uint8 (H, W, 3), by the same rules whatever the source is.

    Raises:
        InvalidInput: a path that does not read, an array of another dtype or shape, or what
        `vqtok.images.read_image` refuses.
    """
    if isinstance(source, np.ndarray):
        return _checked_array(source, limits)
    if isinstance(source, Image.Image):
        return _from_pillow(source, limits)
    return read_image(read_bytes(source), limits)


def read_bytes(source: bytes | str | Path) -> bytes:
    """The bytes themselves, or those of the file.

    Raises:
        InvalidInput: naming the file and why it does not read.
    """
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read: {error.strerror}.") from error


def require_mode(mode: str) -> None:
    """Raise InvalidParameter unless `mode` is one of `vqtok.images.PREPROCESS`."""
    if mode not in PREPROCESS:
        raise InvalidParameter(f"preprocess is one of {', '.join(PREPROCESS)}, not {mode!r}.")


@contextmanager
def named(index: int, source: ImageSource) -> Generator[None]:
    """Let an error from inside say which image it is about: the file, or the number from 0."""
    try:
        yield
    except InvalidInput as error:
        name = str(source) if isinstance(source, str | Path) else f"Image {index}"
        if not error.detail.startswith(name):
            error.detail = f"{name}: {error.detail}"
            error.args = (error.detail,)
        raise


def crop(picture: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """The upper left `size` (H, W) of a decoded grid; all of it when `size` is None.

    Raises:
        InvalidParameter: the grid does not cover that size.
    """
    if size is None:
        return picture
    height, width = size
    if not (1 <= height <= picture.shape[0] and 1 <= width <= picture.shape[1]):
        raise InvalidParameter(
            f"A size of {height}x{width} does not fit a grid that decodes to "
            f"{picture.shape[0]}x{picture.shape[1]}."
        )
    return picture[:height, :width]


def _checked_array(array: NDArray[Any], limits: ImageLimits) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise InvalidInput(
            f"An image array is uint8 (H, W, 3), not {array.dtype} {array.shape}: "
            "scale, convert or transpose it first."
        )
    if array.shape[0] * array.shape[1] > limits.max_pixels:
        raise TooLarge(
            f"The image has {array.shape[0]}x{array.shape[1]} pixels, more than max_pixels "
            f"({limits.max_pixels}).",
            limit=limits.max_pixels,
            setting="max_pixels",
        )
    return array


def _from_pillow(image: Image.Image, limits: ImageLimits) -> NDArray[np.uint8]:
    exif = image.getexif()
    if image.mode == "RGB" and exif.get(_ORIENTATION, 1) == 1 and "transparency" not in image.info:
        return _checked_array(np.asarray(image), limits)
    # Through a lossless file, so that colour and orientation follow the rules for files.
    buffer = io.BytesIO()
    try:
        image.save(buffer, "PNG" if image.mode in _PNG_MODES else "TIFF", exif=exif)
    except (OSError, ValueError, KeyError) as error:
        raise UnsupportedImage(
            f"A Pillow image of mode {image.mode} is not taken ({error}): convert it to RGB."
        ) from error
    return read_image(buffer.getvalue(), limits)
