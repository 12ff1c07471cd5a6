"""Codes in clusters, so that contexts of neighbouring codes are few enough to be counted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import svds

Clusters = NDArray[np.integer]
Vectors = NDArray[np.float64]
ROUNDS = 30
DIRECTIONS = 24
PRIOR_TOKENS = 20.0
"""How many tokens of the average code each code is given, so that rare ones lie in the middle."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """How often each code follows each other one: `pairs` (K, 2K), right of it and below it.
    `usage` (K,) counts the codes.
    """

    pairs: csr_array
    usage: NDArray[np.int64]

    @staticmethod
    def of(tokens: NDArray[np.integer], codes: int) -> "Neighbours":
        """From tokens (n, h, w)."""
        plain = tokens.astype(np.int64)
        first = np.concatenate([plain[:, :, :-1].ravel(), plain[:, :-1].ravel()])
        second = np.concatenate([plain[:, :, 1:].ravel(), plain[:, 1:].ravel() + codes])
        pairs = coo_array((np.ones(len(first)), (first, second)), (codes, 2 * codes))
        return Neighbours(pairs.tocsr(), np.bincount(plain.ravel(), minlength=codes))


def by_codebook(count: int, codebook: NDArray[np.float32], neighbours: Neighbours) -> Clusters:
    """k-means on the code vectors (K, D)."""
    return _k_means(codebook.astype(np.float64), np.ones(len(codebook)), count)


def by_neighbours(count: int, codebook: NDArray[np.float32], neighbours: Neighbours) -> Clusters:
    """k-means on what follows each code: square roots of frequencies (their distance is
    Hellinger's) in the few directions in which codes differ most, each code by its usage.
    """
    pairs, usage = neighbours.pairs, neighbours.usage
    rows = np.asarray(pairs.sum(axis=1)).ravel() / 2 + PRIOR_TOKENS
    average = np.asarray(pairs.sum(axis=0)).ravel()
    average = average / max(1.0, float(average.sum()))
    roots = pairs.multiply(1.0 / rows[:, None]).tocsr()
    roots.data = np.sqrt(roots.data)
    weights = np.sqrt(usage / max(1, int(usage.sum())))
    # The mean is taken off as one more direction and not from the matrix, which stays sparse.
    directions = min(DIRECTIONS + 1, min(roots.shape) - 1)
    start = np.random.default_rng(0).standard_normal(min(roots.shape))
    _, _, found = svds(roots.multiply(weights[:, None]).tocsr(), k=directions, v0=start)
    right = np.asarray(found)
    base = np.sqrt(average * PRIOR_TOKENS)[None] @ right.T
    vectors = np.asarray(roots @ right.T) + base / np.sqrt(rows)[:, None]
    return _k_means(vectors, usage.astype(np.float64), count)


CLUSTERINGS: Mapping[str, Callable[[int, NDArray[np.float32], Neighbours], Clusters]] = {
    "codebook": by_codebook,
    "neighbours": by_neighbours,
}


def _k_means(vectors: Vectors, weights: NDArray[np.float64], count: int) -> Clusters:
    """Clusters 0 .. count - 1 of vectors (K, d), each counted `weights` times; from one seed."""
    rng = np.random.default_rng(0)
    weights = weights + 1e-9 * max(1.0, float(weights.sum()))
    centres = _spread(vectors, weights, count, rng)
    nearest = _nearest(vectors, centres)
    for _ in range(ROUNDS):
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, vectors * weights[:, None])
        totals = np.bincount(nearest, weights, minlength=count)
        centres = np.where(totals[:, None] > 0, sums / np.maximum(totals, 1e-30)[:, None], centres)
        moved = _nearest(vectors, centres)
        if np.array_equal(moved, nearest):
            break
        nearest = moved
    return nearest


def _spread(
    vectors: Vectors, weights: NDArray[np.float64], count: int, rng: np.random.Generator
) -> Vectors:
    """First centres, each drawn by its squared distance from the others (k-means++)."""
    centres = [vectors[rng.choice(len(vectors), p=weights / weights.sum())]]
    distances = np.square(vectors - centres[0]).sum(axis=1)
    for _ in range(count - 1):
        chances = weights * distances
        if not chances.sum() > 0:
            chances = weights
        centres.append(vectors[rng.choice(len(vectors), p=chances / chances.sum())])
        distances = np.minimum(distances, np.square(vectors - centres[-1]).sum(axis=1))
    return np.stack(centres)


def _nearest(vectors: Vectors, centres: Vectors) -> NDArray[np.intp]:
    scores = vectors @ centres.T - np.square(centres).sum(axis=1) / 2
    return scores.argmax(axis=1)
