"""Null distributions of drift, by drawing windows of held-out images.

Images are drawn, not tokens, since the tokens of one image are alike: thresholds of independent
tokens raise false alarms all the time. And they are drawn without replacement: a window of n
different images out of N is just what a window of n unseen ones is, while one drawn with
replacement carries the noise of N images beside that of n. So n is at most N / 4, where windows
still share few images. For the next number of images in `WINDOW_IMAGES` the quantiles are scaled:
what exceeds the distance between held-out images and reference goes as 1 / n.

KL is about a quadratic form in a noise of variance 1 / n, so its deviation goes as 1 / n too. That
of windows from one and the same N images is smaller by sqrt(1 - (n / N)²), and the mean of these
images is itself off by n / N of it. Both widen the quantiles, so that they hold for images to come.
"""

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidInput
from vqtok.statistics.divergence import ReferenceUsage
from vqtok.statistics.drift_null import QUANTILES, DriftNull

WINDOW_IMAGES = (16, 64, 256, 1024, 4096)
SHARE = 4
"""Held-out images for one image of the largest window that is drawn."""
FEWEST_IMAGES = SHARE * WINDOW_IMAGES[1]
NUM_WINDOWS = 10_000
_PASS_VALUES = 1 << 22


class Progress(Protocol):
    """Passes its items on and shows how many of `total` there were."""

    def __call__(self, items: Iterable[int], description: str, total: int, /) -> Iterable[int]: ...


def silent(items: Iterable[int], description: str, total: int, /) -> Iterable[int]:
    """No progress shown."""
    return items


def resample_null(
    tokens: NDArray[Any],
    reference: NDArray[np.int64],
    *,
    num_windows: int = NUM_WINDOWS,
    seed: int = 0,
    progress: Progress = silent,
) -> DriftNull:
    """The null distribution from tokens (N, h, w[, depth]) of N held-out images, against the counts
    (K,) or (depth, K) of the reference. Equal arguments give equal numbers.

    Raises:
        InvalidInput: fewer images than `FEWEST_IMAGES`.
    """
    if len(tokens) < FEWEST_IMAGES:
        raise InvalidInput(too_few(len(tokens)))
    usage = ReferenceUsage(reference)
    images = _Images(tokens.reshape(len(tokens), -1, len(usage.counts)), usage)
    rng = np.random.default_rng(seed)
    drawn = [size for size in WINDOW_IMAGES if size <= len(tokens) // SHARE]
    rows: list[NDArray[np.float64]] = []
    for size in drawn:
        passes = images.passes(size, num_windows)
        shown = progress(range(passes), f"windows of {size} images", passes)
        values = np.concatenate([images.kl_bits(size, rng) for _ in shown])[:num_windows]
        rows.append(np.array([values.mean(), values.std(ddof=1), *np.quantile(values, QUANTILES)]))
        rows[-1] = _widened(rows[-1], 1 / (1 - (size / len(tokens)) ** 2))
    sizes = [*drawn, *WINDOW_IMAGES[len(drawn) : len(drawn) + 1]]
    if len(sizes) > len(drawn):
        rows.append(_scaled(rows[-1], drawn[-1] / sizes[-1], _floor(images, drawn[-1], rows, rng)))
    table = np.stack(
        [_widened(r, 1 + (n / len(tokens)) ** 2) for r, n in zip(rows, sizes, strict=True)]
    )
    return DriftNull(np.array(sizes, np.int64), table[:, 0], table[:, 1], table[:, 2:])


def too_few(num_images: int) -> str:
    """Why so few held-out images do not do."""
    return (
        f"Null distributions of drift need at least {FEWEST_IMAGES} held-out images, and there are "
        f"{num_images}: windows of {WINDOW_IMAGES[1]} images are drawn from them, which would "
        f"share too many if there were not {SHARE} times as many."
    )


class _Images:
    """Histograms of images, of which windows are added up."""

    def __init__(self, tokens: NDArray[Any], usage: ReferenceUsage) -> None:
        self._usage = usage
        self._num_images = len(tokens)
        self._codebook_size = usage.counts.shape[1]
        images = np.arange(len(tokens), dtype=np.int64)[:, None] * self._codebook_size
        self._levels: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
        for level in np.moveaxis(tokens, 2, 0):
            places, counts = np.unique(images + level, return_counts=True)
            self._levels.append(
                (places // self._codebook_size, places % self._codebook_size, counts)
            )

    def _windows_a_pass(self, size: int) -> int:
        most = max(1, _PASS_VALUES // self._codebook_size)
        return min(self._num_images // size, most)

    def passes(self, size: int, num_windows: int) -> int:
        """How many passes give so many windows."""
        return -(-num_windows // self._windows_a_pass(size))

    def kl_bits(self, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """One pass: as many windows as the images give, none of them in two windows."""
        num_windows = self._windows_a_pass(size)
        window_of = rng.permutation(self._num_images) // size
        total = np.zeros(num_windows)
        for (images, codes, counts), shares in zip(self._levels, self._usage.shares, strict=True):
            windows = window_of[images]
            kept = windows < num_windows
            places = windows[kept] * self._codebook_size + codes[kept]
            weights = np.bincount(places, counts[kept], num_windows * self._codebook_size)
            total += _kl_bits(weights.reshape(num_windows, -1), shares)
        return total


def _kl_bits(weights: NDArray[Any], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """What `ReferenceUsage.kl_bits` says of one level, for many histograms at once."""
    rows, codes = np.nonzero(weights)
    live = (weights / weights.sum(axis=1, keepdims=True))[rows, codes]
    terms = live * np.log2(live / shares[codes])
    return np.bincount(rows, terms, len(weights)).astype(np.float64, copy=False)


def _floor(
    images: _Images, size: int, rows: list[NDArray[np.float64]], rng: np.random.Generator
) -> float:
    """The KL of infinitely many held-out images, from means of the form floor + c / n."""
    twice = 2 * size
    passes = images.passes(twice, 200)
    mean = float(np.concatenate([images.kl_bits(twice, rng) for _ in range(passes)]).mean())
    return max(0.0, 2 * mean - float(rows[-1][0]))


def _widened(row: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    """Mean, deviation and quantiles of a distribution with `ratio` times the variance."""
    mean, factor = row[0], ratio**0.5
    return np.array([mean, factor * row[1], *(mean + factor * (row[2:] - mean))])


def _scaled(row: NDArray[np.float64], ratio: float, floor: float) -> NDArray[np.float64]:
    scaled = floor + ratio * (row - floor)
    scaled[1] = ratio * row[1]
    return scaled
