"""The code table as points in space: how far apart they lie, and how many dimensions they fill."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.statistics.usage import entropy_nats

_DUPLICATE_SHARE = 1e-3
_MEDIAN_CODES = 1024
_BLOCK_VALUES = 1 << 22


@dataclass(frozen=True)
class CodebookDistances:
    """Euclidean distances between codes: to the nearest neighbour, the median over all pairs, and
    `duplicates`, the number of codes that have another within 1e-3 of that median.
    """

    nearest_min: float
    nearest_median: float
    nearest_mean: float
    pairwise_median: float
    duplicates: int


@dataclass(frozen=True)
class EffectiveDimension:
    """How many directions the codes in use spread over, 1 .. `code_dim`; None without tokens, or
    where all tokens are of one code.

    With l the eigenvalues of the codes' covariance, each code weighed by its use:
    `participation_ratio` = (sum l)² / sum l², `entropy` = exp H(l / sum l).
    """

    code_dim: int
    participation_ratio: float | None
    entropy: float | None


def codebook_distances(codebook: NDArray[np.float32]) -> CodebookDistances:
    """Distances within a code table (K, D), K at least 2.

    The median over pairs, by which duplicates are judged, is taken over at most 1024 codes spread
    evenly through the table.
    """
    centred = codebook.astype(np.float64) - codebook.mean(axis=0, dtype=np.float64)
    stride = -(-len(centred) // _MEDIAN_CODES)
    some = centred[::stride]
    median = float(np.median(_distances(some, some)[np.triu_indices(len(some), k=1)]))
    nearest = np.empty(len(centred))
    block = max(1, _BLOCK_VALUES // len(centred))
    for start in range(0, len(centred), block):
        distances = _distances(centred[start : start + block], centred)
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf
        nearest[start : start + block] = distances.min(axis=1)
    return CodebookDistances(
        nearest_min=float(nearest.min()),
        nearest_median=float(np.median(nearest)),
        nearest_mean=float(nearest.mean()),
        pairwise_median=median,
        duplicates=int((nearest <= _DUPLICATE_SHARE * median).sum()),
    )


def effective_dimension(codebook: NDArray[np.float32], weights: NDArray[Any]) -> EffectiveDimension:
    """Of a code table (K, D), whose codes are used as the histogram (K,) says."""
    code_dim, total = codebook.shape[1], float(weights.sum())
    if not total:
        return EffectiveDimension(code_dim, None, None)
    used = np.flatnonzero(weights)
    shares, codes = weights[used] / total, codebook[used].astype(np.float64)
    centred = codes - shares @ codes
    covariance = (centred * shares[:, None]).T @ centred
    spread = np.maximum(np.linalg.eigvalsh(covariance), 0)
    if not spread.sum():
        return EffectiveDimension(code_dim, None, None)
    ratio = float(spread.sum() ** 2 / (spread**2).sum())
    return EffectiveDimension(code_dim, ratio, float(np.exp(entropy_nats(spread))))


def _distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * (a @ b.T)
    return np.sqrt(np.maximum(squares, 0))
