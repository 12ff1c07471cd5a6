"""From whatever samples a file holds to uint8 RGB, by rules that are stated here and tested.

| stored                       | becomes                                                          |
|------------------------------|------------------------------------------------------------------|
| 1 bit, grey                  | the same value in all three channels                             |
| palette                      | the palette's colours                                            |
| alpha, transparent palette   | put on white: (v * alpha + 255 * (255 - alpha)) / 255, rounded   |
| one transparent colour       | white where a pixel has it (of 16-bit RGB: its high bytes)       |
| more than 8 bits a sample    | the 8 highest bits: 16-bit v >> 8, 12-bit v >> 4                 |
| CMYK, YCCK                   | (255 - ink) * (255 - black) / 255, Adobe's inverted inks upright |
| YCbCr                        | RGB by JPEG's matrix                                             |
| 32-bit integers, floats, LAB | refused: the file does not state which value is white            |

Colour profiles and gamma are not applied: the samples are taken as sRGB.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from vqtok.errors import UnsupportedImage
from vqtok.images.formats.header import ImageHeader

BAND_PIXELS = 2**20
"""Rows are converted some at a time, so that a mode with wider samples does not multiply the
memory of the picture.
"""

WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
OPAQUE = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"})
SIXTEEN_BIT = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})


def write_rgb(picture: Image.Image, header: ImageHeader, target: NDArray[np.uint8]) -> None:
    """Fill `target`, uint8 (H, W, 3) in the orientation as stored, with the pixels of a decoded
    picture.

    Raises:
        UnsupportedImage: samples whose white is not stated.
    """
    if picture.mode not in WITH_ALPHA | OPAQUE | SIXTEEN_BIT:
        raise UnsupportedImage(
            f"The {header.format.upper()} image has samples of the kind {picture.mode!r}, for which"
            " no value is agreed to be white: convert it to 8 or 16 bits a channel, grey or RGB."
        )
    width, height = picture.size
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        band = picture.crop((0, top, width, bottom))
        target[top:bottom] = _band_to_rgb(band, picture, header)


def _band_to_rgb(band: Image.Image, picture: Image.Image, header: ImageHeader) -> NDArray[np.uint8]:
    key = picture.info.get("transparency")
    if band.mode in WITH_ALPHA or (
        band.mode == "P" and (key is not None or _has_alpha_palette(band))
    ):
        return _on_white(np.asarray(band.convert("RGBA")))
    if band.mode in SIXTEEN_BIT:
        return _from_sixteen_bits(np.asarray(band), picture, header)
    rgb: NDArray[np.uint8] = np.array(_without_key(band).convert("RGB"))
    if key is not None:
        rgb[(rgb == _eight_bit_key(key, band.mode, header)).all(axis=-1)] = 255
    return rgb


def _has_alpha_palette(band: Image.Image) -> bool:
    return band.palette is not None and band.palette.mode == "RGBA"


def _without_key(band: Image.Image) -> Image.Image:
    """The key is applied here, exactly; Pillow would compare it with samples of another depth."""
    band.info.pop("transparency", None)
    return band


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:].astype(np.uint16)
    blended = rgba[..., :3] * alpha + 255 * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)


def _from_sixteen_bits(
    samples: NDArray[Any], picture: Image.Image, header: ImageHeader
) -> NDArray[np.uint8]:
    key = picture.info.get("transparency")
    grey = (samples >> (header.bits_per_sample - 8)).astype(np.uint8)
    if _white_is_zero(picture):
        grey = 255 - grey
    if key is not None:
        grey[samples == key] = 255
    return np.repeat(grey[..., np.newaxis], 3, axis=-1)


def _white_is_zero(picture: Image.Image) -> bool:
    """Whether a TIFF file stores white as 0. Pillow inverts such samples only up to 8 bits."""
    return (
        isinstance(picture, TiffImagePlugin.TiffImageFile)
        and picture.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    )


def _eight_bit_key(key: Any, mode: str, header: ImageHeader) -> NDArray[np.uint8]:
    """The transparent colour in the samples that Pillow gives; PNG states it in the depth as
    stored.
    """
    values = np.atleast_1d(np.asarray(key, dtype=np.int64))
    if header.format == "png" and mode != "1":
        bits = header.bits_per_sample
        values = values >> (bits - 8) if bits > 8 else values * 255 // (2**bits - 1)
    return np.clip(values, 0, 255).astype(np.uint8)
