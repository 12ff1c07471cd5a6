"""What is counted of a number of images. Windows add up, so that one count serves several."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidTokens
from vqtok.manifest import Manifest
from vqtok.statistics.values import ValueHistogram

MEASURES = ("quantisation_error", "posterior_entropy")
"""What some encoders give beside tokens and margins, in the order of a row."""

_RANGES = {
    "margins": (1e-6, 1.0),
    "quantisation_error": (1e-8, 1e8),
    "posterior_entropy": (1e-6, 1e2),
}

Stack = Sequence[NDArray[Any]]
"""Of n images of one grid: tokens (n, h, w[, depth]), margins (n, h, w), and (n, h, w) for each
measure there is.
"""


def measures_of(manifest: Manifest) -> tuple[str, ...]:
    """Those of `MEASURES` that the model's encoder gives."""
    return tuple(name for name in MEASURES if name in manifest.outputs)


@dataclass(frozen=True)
class Shape:
    """What is the same for all windows of a model. `cells` are those of the native grid."""

    codebook_size: int
    depth: int
    cells: int
    measures: tuple[str, ...] = ()

    @staticmethod
    def of(manifest: Manifest) -> "Shape":
        """The shape of a model's windows."""
        height, width = manifest.grid[:2]
        measures = measures_of(manifest)
        return Shape(manifest.codebook_size, manifest.depth, height * width, measures)


class Window:
    """Counts of images, of which each weighs as much as any other: a token of an image with n cells
    weighs (cells of the native grid) / n, so that those of native images count once.

    `weights` float64 (depth, K); `num_tokens` counts the cells of all grids.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.weights = np.zeros((shape.depth, shape.codebook_size))
        self.num_images = 0
        self.num_tokens = 0
        self._squared_weights = 0.0
        self.values = {
            name: ValueHistogram(*_RANGES[name]) for name in ("margins", *shape.measures)
        }

    @staticmethod
    def of(shape: Shape, stacks: Sequence[Stack]) -> "Window":
        """What some images come to; see `count`."""
        window = Window(shape)
        window.count(stacks)
        return window

    def count(self, stacks: Sequence[Stack]) -> None:
        """Add some images.

        Raises:
            InvalidTokens: a token outside 0 .. K - 1.
        """
        by_grid: dict[tuple[int, ...], list[Stack]] = {}
        for stack in stacks:
            by_grid.setdefault(stack[1].shape[1:], []).append(stack)
        for alike in by_grid.values():
            self._count_alike(alike)

    def merge(self, other: "Window") -> None:
        """Add the images of another window."""
        self.weights += other.weights
        self.num_images += other.num_images
        self.num_tokens += other.num_tokens
        self._squared_weights += other._squared_weights
        for name, histogram in self.values.items():
            histogram.merge(other.values[name])

    def copy(self) -> "Window":
        """A window of its own with the same images."""
        same = Window(self.shape)
        same.merge(self)
        return same

    @property
    def effective_tokens(self) -> float:
        """Kish's effective number of tokens: `num_tokens` where all images have one size."""
        if not self.num_tokens:
            return 0.0
        return (self.num_images * self.shape.cells) ** 2 / self._squared_weights

    def _count_alike(self, stacks: Sequence[Stack]) -> None:
        """Count images of one grid."""
        # Arrays of one shape are put together as they are: to flatten each would take longer.
        columns = [np.concatenate(parts) for parts in zip(*stacks, strict=True)]
        tokens = columns[0].reshape(-1, self.shape.depth)
        codes, weight = self.shape.codebook_size, self.shape.cells / columns[1][0].size
        if not 0 <= int(tokens.min()) <= int(tokens.max()) < codes:
            raise InvalidTokens(f"A token is outside 0 .. {codes - 1}.")
        for counted, level in zip(self.weights, tokens.T, strict=True):
            added = np.bincount(level, minlength=codes)
            counted += added if weight == 1 else weight * added
        self.num_images += len(columns[0])
        self.num_tokens += len(tokens)
        self._squared_weights += weight**2 * len(tokens)
        for column, histogram in zip(columns[1:], self.values.values(), strict=True):
            histogram.add(column.reshape(-1), weight)
