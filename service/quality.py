"""How near a reconstruction comes to its image, as the field measures it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

SSIM_WINDOW = 7
BAND_PIXELS = 500_000


@dataclass(frozen=True)
class Quality:
    """`mse` on pixels scaled to 0 .. 1; `psnr` in dB, None where the images are equal; `ssim` of
    scikit-image (window 7, mean over channels), None where a side is below 7 pixels.
    """

    mse: float
    psnr: float | None
    ssim: float | None


def compare(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> Quality:
    """Compare two images (H, W, 3). Memory does not grow with the image: it goes by bands of rows,
    and every figure is that of the whole.
    """
    squares = 0
    for top, bottom in _bands(0, image.shape[0], image.shape[1]):
        difference = image[top:bottom].astype(np.int32) - other[top:bottom]
        squares += int(np.square(difference).sum(dtype=np.int64))
    mse = squares / image.size / 255**2
    return Quality(mse, -10 * math.log10(mse) if mse else None, _ssim(image, other))


def _ssim(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> float | None:
    height, width = image.shape[:2]
    if min(height, width) < SSIM_WINDOW:
        return None
    metrics: Any = import_module("skimage.metrics")
    # The mean is taken over the windows that lie inside the image; a band reads half a window
    # more on each side and answers for its inner rows.
    rim = SSIM_WINDOW // 2
    total = 0.0
    for top, bottom in _bands(rim, height - rim, width):
        rows = slice(top - rim, bottom + rim)
        score = metrics.structural_similarity(
            image[rows], other[rows], channel_axis=2, data_range=255, win_size=SSIM_WINDOW
        )
        total += float(score) * (bottom - top)
    return total / (height - 2 * rim)


def _bands(first: int, last: int, width: int) -> Iterator[tuple[int, int]]:
    step = max(1, BAND_PIXELS // width)
    for top in range(first, last, step):
        yield top, min(top + step, last)
