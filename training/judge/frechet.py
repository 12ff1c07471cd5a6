"""The Fréchet distance between normal distributions that are fitted to two sets of features."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]
NUM_GROUPS = 20
"""So many times a group of each set is left out, for the standard error."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """mean float64 (F,), covariance float64 (F, F)."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @staticmethod
    def fit(features: Features) -> "Gaussian":
        """Of features (n, F), n > 1; the covariance divides by n - 1."""
        values = features.astype(np.float64)
        return Gaussian(values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False)))


@dataclass(frozen=True)
class Distance:
    """A squared distance, and the standard error of it as an estimate."""

    value: float
    standard_error: float


def squared_distance(one: Gaussian, other: Gaussian) -> float:
    """d² = |m - m'|² + tr(C + C' - 2 (C C')^½) (Dowson and Landau 1982), at least 0.

    The trace of the root is that of (C^½ C' C^½)^½, which is symmetric: its eigenvalues are real,
    also where a covariance has not full rank.
    """
    root = _root(one.covariance)
    inner = np.linalg.eigvalsh(root @ other.covariance @ root)
    shared = float(np.sqrt(inner.clip(min=0.0)).sum())
    spread = float(np.trace(one.covariance) + np.trace(other.covariance))
    moved = float(np.square(one.mean - other.mean).sum())
    return max(0.0, moved + spread - 2.0 * shared)


def frechet_distance(features: Features, reference: Features, *, paired: bool = False) -> Distance:
    """The squared distance between the fits to features (n, F) and (m, F).

    Its standard error is the jackknife's over groups, every NUM_GROUPS-th row a group (Efron 1982):
    sets drawn with repetition, as a bootstrap takes them, would lie further apart. paired: row i of
    both is of one image, so that both leave it out together.
    """
    value = squared_distance(Gaussian.fit(features), Gaussian.fit(reference))
    without, others = _without_groups(features), _without_groups(reference)
    if paired:
        pairs = zip(without, others, strict=True)
        return Distance(value, _jackknife([squared_distance(*pair) for pair in pairs]))
    one, other = Gaussian.fit(features), Gaussian.fit(reference)
    errors = (
        _jackknife([squared_distance(each, other) for each in without]),
        _jackknife([squared_distance(one, each) for each in others]),
    )
    return Distance(value, math.hypot(*errors))


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0.0))) @ vectors.T


def _jackknife(values: list[float]) -> float:
    """The standard error from the estimates without each of the groups."""
    return math.sqrt((len(values) - 1) * float(np.var(values)))


def _without_groups(features: Features) -> list[Gaussian]:
    """The fits without one of the groups each, from sums over groups."""
    shift = features.mean(axis=0, dtype=np.float64)
    centred = features.astype(np.float64) - shift
    num = min(NUM_GROUPS, len(features) // 2)
    parts = [centred[group::num] for group in range(num)]
    sums = [part.sum(axis=0) for part in parts]
    squares = [part.T @ part for part in parts]
    whole, whole_square = centred.sum(axis=0), centred.T @ centred
    fits: list[Gaussian] = []
    for part, total, square in zip(parts, sums, squares, strict=True):
        count = len(centred) - len(part)
        mean = (whole - total) / count
        outer = count * np.outer(mean, mean)
        fits.append(Gaussian(shift + mean, (whole_square - square - outer) / (count - 1)))
    return fits
