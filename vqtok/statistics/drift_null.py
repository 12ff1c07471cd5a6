"""What KL(live || reference) comes to when nothing has drifted, by the number of images.

Few tokens never look like the reference: the KL of n of them is too large by about (K - 1) / 2n
nats, and how much it varies depends on how alike the tokens of one image are. Both are measured:
windows of whole images are drawn from images that the reference has not seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.5, 0.95, 0.99, 0.999)
QUANTILE_NAMES = ("q50", "q95", "q99", "q99.9")


@dataclass(frozen=True)
class NullAt:
    """The null distribution of `kl_bits` for windows of one number of images."""

    mean: float
    sd: float
    quantiles: tuple[float, ...]

    @property
    def threshold(self) -> float:
        """What a window exceeds once in a thousand while nothing has drifted."""
        return self.quantiles[-1]

    @property
    def named(self) -> dict[str, float]:
        """The quantiles by their names."""
        return dict(zip(QUANTILE_NAMES, self.quantiles, strict=True))


@dataclass(frozen=True, eq=False)
class DriftNull:
    """`images` int64 (S,), ascending: how many images a window has; of its `kl_bits` the `mean` and
    the `sd`, float64 (S,), and `quantiles` float64 (S, 4), those of `QUANTILES`.

    Raises:
        ValueError: on construction, for arrays that no calibration can have made.
    """

    images: NDArray[np.int64]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    quantiles: NDArray[np.float64]

    def __post_init__(self) -> None:
        sizes = len(self.images) if self.images.ndim == 1 else 0
        shapes = {"mean": (sizes,), "sd": (sizes,), "quantiles": (sizes, len(QUANTILES))}
        if not sizes or int(self.images[0]) < 1 or bool((np.diff(self.images) <= 0).any()):
            raise ValueError("the numbers of images do not ascend from at least 1")
        for name, shape in shapes.items():
            array: NDArray[np.float64] = getattr(self, name)
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, not {shape}")
            # Written so that a value that is not a number fails too.
            if not bool((array > 0).all()) or not bool(np.isfinite(array).all()):
                raise ValueError(f"{name} holds values that are not finite and above 0")
        if bool((np.diff(self.quantiles, axis=1) < 0).any()):
            raise ValueError("the quantiles do not ascend")

    @property
    def range(self) -> tuple[int, int]:
        """Fewest and most images of a window that there are quantiles for."""
        return int(self.images[0]), int(self.images[-1])

    def at(self, num_images: int) -> NullAt | None:
        """For windows of this many images; None outside the range. Between two numbers logarithms
        are interpolated over the logarithm of the number, since all go about as 1 / n.
        """
        least, most = self.range
        if not least <= num_images <= most:
            return None
        places, place = np.log(self.images), float(np.log(num_images))

        def between(column: NDArray[np.float64]) -> float:
            return float(np.exp(np.interp(place, places, np.log(column))))

        quantiles = tuple(between(column) for column in self.quantiles.T)
        return NullAt(between(self.mean), between(self.sd), quantiles)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays by their names in `reference.npz`."""
        return {f"drift_{name}": getattr(self, name) for name in DriftNull.__dataclass_fields__}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any] | None]) -> "DriftNull | None":
        """From arrays by their names in `reference.npz`; None where they are absent.

        Raises:
            ValueError: some are there and others not, or see the class.
        """
        found = {name: arrays.get(f"drift_{name}") for name in DriftNull.__dataclass_fields__}
        present = {name: array for name, array in found.items() if array is not None}
        if not present:
            return None
        absent = [f"drift_{name}" for name in found if name not in present]
        if absent:
            raise ValueError(f"there is no {', '.join(absent)} beside the other drift arrays")
        return DriftNull(**present)
