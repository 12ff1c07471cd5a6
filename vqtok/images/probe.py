"""What an image is, from its header alone."""

import struct
from dataclasses import dataclass
from types import ModuleType

from vqtok.errors import BrokenImage, TooLarge, UnsupportedImage
from vqtok.images.formats import bmp, gif, jpeg, png, tiff, webp
from vqtok.images.formats.header import ImageHeader

FORMATS: dict[str, ModuleType] = {
    "jpeg": jpeg,
    "png": png,
    "webp": webp,
    "gif": gif,
    "bmp": bmp,
    "tiff": tiff,
}
"""The formats that are taken, each with its module in `vqtok.images.formats`."""

TAKEN = "JPEG, PNG, WebP, GIF, BMP and TIFF"
LONGEST_SIDE = 2**31 - 1


@dataclass(frozen=True)
class ImageLimits:
    """`max_pixels` holds for one image, `max_request_pixels` for all images of a request
    together.
    """

    max_pixels: int = 16_000_000
    max_request_pixels: int = 64_000_000


def probe(data: bytes) -> ImageHeader:
    """Format, size and orientation. The bytes decide, not a name or a declared type; no pixel is
    decoded.

    The time is linear in the bytes before the pixels and the number of blocks is bounded.

    Raises:
        UnsupportedImage: none of the formats that are taken.
        BrokenImage: the header is cut short, contradicts itself, or states a side of 0.
    """
    name = _format_of(data)
    try:
        header: ImageHeader = FORMATS[name].read_header(data)
    except (struct.error, IndexError) as error:
        raise BrokenImage(
            f"The header of the {name.upper()} file is cut short or damaged."
        ) from error
    if not (0 < header.width <= LONGEST_SIDE and 0 < header.height <= LONGEST_SIDE):
        raise BrokenImage(
            f"The {name.upper()} file states a size of {header.width} x {header.height} pixels."
        )
    return header


def check_limits(header: ImageHeader, limits: ImageLimits) -> None:
    """Refuse an image that has too many pixels.

    Raises:
        TooLarge: the header states more than `limits.max_pixels`.
    """
    if header.pixels > limits.max_pixels:
        raise TooLarge(
            f"The image has {header.width} x {header.height} = {header.pixels} pixels; at most"
            f" {limits.max_pixels} are taken (max_pixels).",
            limit=limits.max_pixels,
            setting="max_pixels",
        )


def _format_of(data: bytes) -> str:
    if not data:
        raise BrokenImage("The image is empty: 0 bytes arrived.")
    for name, module in FORMATS.items():
        if data.startswith(module.SIGNATURES) and (name != "webp" or data[8:12] == b"WEBP"):
            return name
    raise UnsupportedImage(f"The bytes are none of the image formats taken: {TAKEN}.")
