"""Fitting a picture to a tokenizer, whose grid needs sides that are multiples of its factor f.

| mode              | the picture that is tokenized                               | returned     |
|-------------------|-------------------------------------------------------------|--------------|
| `exact`           | as it is; sides must be multiples of f                      | its own size |
| `pad` (default)   | last row and column repeated to the next multiples of f     | its own size |
| `resize`          | stretched to `image_size`, BICUBIC                          | `image_size` |
| `center_crop`     | largest centred part of that shape, to `image_size`, BICUBIC| `image_size` |
| `adm_center_crop` | as ADM trains: halved by BOX while the short side is 2 S or | `image_size` |
|                   | more, short side to S by BICUBIC, then the central S x S    |              |

Resizing is Pillow's, which smooths when it shrinks. All sizes are (height, width).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vqtok.errors import InvalidParameter

BICUBIC = Image.Resampling.BICUBIC
BOX = Image.Resampling.BOX

Size = tuple[int, int]
Pixels = NDArray[np.uint8]

MAX_INTERMEDIATE_PIXELS = 16_000_000
"""What a picture may hold between two steps of resizing; only very long pictures come near."""


@dataclass(frozen=True)
class Prepared:
    """A picture that fits the grid: `pixels` uint8 (H', W', 3), and the `size` (H, W) to return
    after decoding.
    """

    pixels: Pixels
    size: Size


@dataclass(frozen=True)
class PreprocessMode:
    """`plan(size, factor, image_size)` is the size that `apply(image, planned)` gives, or raises
    `InvalidParameter`.
    """

    plan: Callable[[Size, int, int | Size | None], Size]
    apply: Callable[[Pixels, Size], Pixels]
    keeps_size: bool


def preprocess(
    image: Pixels, mode: str = "pad", *, factor: int, image_size: int | Size | None = None
) -> Prepared:
    """Fit `image`, uint8 (H, W, 3), to a grid of cells of `factor` x `factor` pixels.

    `image_size` is a side or (height, width); `resize`, `center_crop` and `adm_center_crop` need
    it, the others do not look at it.

    Raises:
        InvalidParameter: as `planned_size`.
    """
    size = image.shape[0], image.shape[1]
    planned = planned_size(size, mode, factor, image_size)
    fitted = np.ascontiguousarray(PREPROCESS[mode].apply(image, planned))
    return Prepared(fitted, size if PREPROCESS[mode].keeps_size else planned)


def planned_size(size: Size, mode: str, factor: int, image_size: int | Size | None = None) -> Size:
    """(H', W') that `preprocess` will give for a picture of `size` (H, W), known from its header
    alone.

    Raises:
        InvalidParameter: an unknown mode, sides that are no multiples of `factor` under `exact`,
        an `image_size` that is
            missing or does not fit the grid, a picture too long for `adm_center_crop`.
    """
    if mode not in PREPROCESS:
        raise InvalidParameter(f"preprocess is one of {', '.join(PREPROCESS)}, not {mode!r}.")
    if min(size) < 1:
        raise InvalidParameter(f"A picture of {size[0]} x {size[1]} pixels has no pixel.")
    return PREPROCESS[mode].plan(size, factor, image_size)


def _plan_exact(size: Size, factor: int, image_size: int | Size | None) -> Size:
    if size[0] % factor or size[1] % factor:
        raise InvalidParameter(
            f"preprocess=exact needs sides that are multiples of {factor}; the picture is"
            f" {size[0]} x {size[1]} (height x width). Use preprocess=pad, or resize it."
        )
    return size


def _plan_pad(size: Size, factor: int, image_size: int | Size | None) -> Size:
    return -(-size[0] // factor) * factor, -(-size[1] // factor) * factor


def _plan_resize(size: Size, factor: int, image_size: int | Size | None) -> Size:
    if image_size is None:
        raise InvalidParameter("image_size is missing: this preprocess resizes to it.")
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height < 1 or width < 1 or height % factor or width % factor:
        raise InvalidParameter(
            f"image_size must be positive multiples of {factor}, not {height} x {width}"
            " (height x width)."
        )
    return height, width


def _plan_adm(size: Size, factor: int, image_size: int | Size | None) -> Size:
    side, width = _plan_resize(size, factor, image_size)
    if side != width:
        raise InvalidParameter(f"adm_center_crop is square, image_size is {side} x {width}.")
    if side * side * max(size) // min(size) > MAX_INTERMEDIATE_PIXELS:
        raise InvalidParameter(
            f"A picture of {size[0]} x {size[1]} pixels is too long for adm_center_crop to {side}:"
            " use center_crop."
        )
    return side, side


def _as_it_is(image: Pixels, planned: Size) -> Pixels:
    return image


def _pad(image: Pixels, planned: Size) -> Pixels:
    below, right = planned[0] - image.shape[0], planned[1] - image.shape[1]
    if not below and not right:
        return image
    return np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge")


def _resize(image: Pixels, planned: Size) -> Pixels:
    return _resized(image, planned, (0.0, 0.0, float(image.shape[1]), float(image.shape[0])))


def _center_crop(image: Pixels, planned: Size) -> Pixels:
    height, width = image.shape[:2]
    scale = max(planned[0] / height, planned[1] / width)
    part_height, part_width = min(planned[0] / scale, height), min(planned[1] / scale, width)
    left, top = (width - part_width) / 2, (height - part_height) / 2
    return _resized(image, planned, (left, top, left + part_width, top + part_height))


def _resized(image: Pixels, planned: Size, box: tuple[float, float, float, float]) -> Pixels:
    """The part `box` (left, top, right, bottom) of a picture, resized by BICUBIC."""
    height, width = planned
    picture = Image.fromarray(image)
    left, top, right, bottom = box
    # Pillow resizes the width first. Where that would make a long picture huge, height goes first.
    if width * image.shape[0] > MAX_INTERMEDIATE_PIXELS:
        picture = picture.resize((picture.width, height), BICUBIC, (0, top, picture.width, bottom))
        top, bottom = 0, height
    return np.asarray(picture.resize((width, height), BICUBIC, (left, top, right, bottom)))


def _adm_center_crop(image: Pixels, planned: Size) -> Pixels:
    side = planned[0]
    picture = Image.fromarray(image)
    while min(picture.size) >= 2 * side:
        picture = picture.resize((picture.width // 2, picture.height // 2), BOX)
    scale = side / min(picture.size)
    scaled = round(picture.width * scale), round(picture.height * scale)
    pixels = np.asarray(picture.resize(scaled, BICUBIC))
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[top : top + side, left : left + side]


PREPROCESS: dict[str, PreprocessMode] = {
    "exact": PreprocessMode(_plan_exact, _as_it_is, keeps_size=True),
    "pad": PreprocessMode(_plan_pad, _pad, keeps_size=True),
    "resize": PreprocessMode(_plan_resize, _resize, keeps_size=False),
    "center_crop": PreprocessMode(_plan_resize, _center_crop, keeps_size=False),
    "adm_center_crop": PreprocessMode(_plan_adm, _adm_center_crop, keeps_size=False),
}
"""Every mode by its name on the wire."""
