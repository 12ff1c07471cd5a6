"""How far two sets of samples are apart: the sliced Wasserstein distance and its error."""

import numpy as np
from numpy.typing import NDArray

_DIRECTIONS, _RESAMPLES = 128, 50


def sliced_distance(
    one: NDArray[np.floating], other: NDArray[np.floating], seed: int = 0
) -> tuple[float, float]:
    """Sliced 2-Wasserstein distance of rows (n, d) and (n, d), and its standard error.

    The root of the mean over random directions of the squared distance of the two distributions
    along them (Bonneel et al. 2015); the error by resampling the rows of both. Two samples of one
    distribution are apart as well, the further the fewer they are.

    Raises ValueError where the two differ in shape.
    """
    if one.shape != other.shape:
        raise ValueError(f"samples of {one.shape} and {other.shape} cannot be paired")
    generator = np.random.default_rng(seed)
    directions = generator.standard_normal((one.shape[1], _DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    along, others = one @ directions, other @ directions
    again = [
        _distance(along[_rows(generator, len(one))], others[_rows(generator, len(one))])
        for _ in range(_RESAMPLES)
    ]
    return _distance(along, others), float(np.std(again, ddof=1))


def _distance(along: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    differences = np.sort(along, axis=0) - np.sort(others, axis=0)
    return float(np.sqrt(np.square(differences).mean()))


def _rows(generator: np.random.Generator, count: int) -> NDArray[np.int64]:
    return generator.integers(count, size=count)
