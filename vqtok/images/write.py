"""From pixels to the bytes of an image file."""

import io
from collections.abc import Callable

import numpy as np
import simplejpeg  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray
from PIL import Image

from vqtok.errors import InvalidParameter, NotAcceptable

DEFAULT_QUALITY = 90
LONGEST_SIDE = {"png": 2**31 - 1, "webp": 16_383, "jpeg": 65_500}

IMAGE_MEDIA_TYPES = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpeg"}
"""Media types in which one image can be sent, each with its name in `write_image`; the first is
the default.
"""


def write_image(
    pixels: NDArray[np.uint8], format: str = "png", quality: int = DEFAULT_QUALITY
) -> bytes:
    """One image, uint8 (H, W, 3), as the bytes of a `png` (lossless), `webp` or `jpeg` file.

    `quality`, 1 .. 100, counts for WebP and JPEG. JPEG keeps the colours at full resolution.

    Raises:
        InvalidParameter: another format, or a quality out of range.
        NotAcceptable: a side longer than the format can carry.
    """
    if format not in WRITERS:
        raise InvalidParameter(f"Images are written as {', '.join(WRITERS)}, not as {format!r}.")
    if not 1 <= quality <= 100:
        raise InvalidParameter(f"The quality of an image is 1 .. 100, not {quality}.")
    if max(pixels.shape[:2]) > LONGEST_SIDE[format]:
        raise NotAcceptable(
            f"An image of {pixels.shape[0]} x {pixels.shape[1]} pixels does not fit into {format},"
            f" whose sides end at {LONGEST_SIDE[format]}: ask for image/png or application/x-npy."
        )
    return WRITERS[format](np.ascontiguousarray(pixels), quality)


def _png(pixels: NDArray[np.uint8], quality: int) -> bytes:
    return _by_pillow(pixels, "PNG")


def _webp(pixels: NDArray[np.uint8], quality: int) -> bytes:
    return _by_pillow(pixels, "WEBP", quality=quality)


def _jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    return simplejpeg.encode_jpeg(pixels, quality=quality, colorspace="RGB", colorsubsampling="444")


def _by_pillow(pixels: NDArray[np.uint8], format: str, **options: int) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format, **options)
    return target.getvalue()


WRITERS: dict[str, Callable[[NDArray[np.uint8], int], bytes]] = {
    "png": _png,
    "webp": _webp,
    "jpeg": _jpeg,
}
