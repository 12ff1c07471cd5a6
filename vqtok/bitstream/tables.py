"""The tables that entropy coders work by: counts of training tokens, and how they are smoothed.

All of it is integers, and a weight is made of them by integer arithmetic alone, so that every
machine has the same tables to the last digit. A stream that one machine wrote would otherwise
come out as noise on another (Ballé et al. 2019, Integer Networks for Data Compression).

With counts n of training tokens, n_s the smoothing and K codes, the weights of a token's code x are

    static      s(x)  = ⌊2²⁴ · (16 n(x) + n_s) / (16 Σn + K n_s)⌋ + 1
    position    2²⁴ n(x at p) + n_p · s(x)
    context     2²⁴ n(x after l, u) + n_c · ⌊(b(x after l) + b(x below u)) / 2⌋
                b(x after l) = ⌊(2²⁴ n(x after l) + n_b · s(x)) / (n(after l) + n_b)⌋ + 1

where l and u are the clusters of the codes to the left and above, and beyond the edge of the grid
a cluster of their own. A code that training never saw has a weight of at least 1 everywhere.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vqtok.reference import Reference

SCALE: Final = 1 << 24
MOST_ENTRIES: Final = 1 << 24
"""A table of more is not offered: as uint32 it would take 64 MiB of everybody's memory."""
MOST_CODES: Final = 1 << 20
"""The range coder divides 2²⁴ among the codes, and each has at least 1 of them."""
ID_DIGITS: Final = 16

Weights = NDArray[np.int64]
STATIC, POSITION, CONTEXT = "static", "position", "context"


class Row(NamedTuple):
    """Which weights a group of tokens is coded by: of a coder, a level of depth, and a place or a
    context.
    """

    coder: str
    level: int
    number: int = 0


@dataclass(frozen=True, eq=False)
class CoderTables:
    """Tables of one bundle.

    `usage` int64 (depth, K) and `position_counts` uint32 (h, w, depth, K) count training tokens,
    `context_counts` uint32 (depth, (C + 1)², K) those that stand right of cluster l and below
    cluster u at the place l · (C + 1) + u. `clusters` uint16 (depth, K) gives every code its
    cluster, 0 .. C - 1. `smoothing` int64 (4, depth) holds n_s, n_p, n_b and n_c.
    """

    usage: NDArray[np.int64]
    position_counts: NDArray[np.uint32]
    clusters: NDArray[np.uint16]
    context_counts: NDArray[np.uint32]
    smoothing: NDArray[np.int64]

    @staticmethod
    def of(reference: Reference) -> "CoderTables | None":
        """The tables that a bundle holds; None in one without."""
        if (
            reference.coder_clusters is None
            or reference.coder_context_counts is None
            or reference.coder_smoothing is None
        ):
            return None
        depth, codes = reference.coder_clusters.shape
        return CoderTables(
            reference.usage.reshape(depth, codes),
            reference.position_counts.reshape(*reference.position_counts.shape[:2], depth, codes),
            reference.coder_clusters,
            reference.coder_context_counts,
            reference.coder_smoothing,
        )

    @property
    def depth(self) -> int:
        """Tokens a cell."""
        return self.usage.shape[0]

    @property
    def codebook_size(self) -> int:
        """K."""
        return self.usage.shape[1]

    @property
    def native_grid(self) -> tuple[int, int]:
        """(h, w) of the grid that `position` knows."""
        return (self.position_counts.shape[0], self.position_counts.shape[1])

    @cached_property
    def num_clusters(self) -> int:
        """C; codes left of and above the edge are of cluster C."""
        return round(self.context_counts.shape[1] ** 0.5) - 1

    def has(self, coder: str) -> bool:
        """Whether there is a table for this coder: large ones are left out."""
        sizes = {
            STATIC: self.usage.size,
            POSITION: self.position_counts.size,
            CONTEXT: self.context_counts.size,
        }
        return sizes[coder] <= MOST_ENTRIES and self.codebook_size <= MOST_CODES

    @cached_property
    def ids(self) -> dict[str, str]:
        """An id, 16 hex digits, of what each coder's weights are made of."""
        counts = {
            STATIC: (),
            POSITION: (self.position_counts,),
            CONTEXT: (self.clusters, self.context_counts),
        }
        smoothing = {STATIC: [0], POSITION: [0, 1], CONTEXT: [0, 2, 3]}
        return {
            coder: _digest(coder, self.usage, self.smoothing[smoothing[coder]], *arrays)
            for coder, arrays in counts.items()
            if self.has(coder)
        }

    def weights(self, row: Row) -> Weights:
        """Positive integers (K,) with a sum below 2⁵³, in proportion to the probabilities."""
        if row.coder == STATIC:
            return self._static[row.level]
        if row.coder == POSITION:
            places = self.position_counts.reshape(-1, self.depth, self.codebook_size)
            counts, behind = places[row.number, row.level], self._static[row.level]
            return self._smoothed(counts, behind, self.smoothing[1, row.level])
        left, above = divmod(row.number, self.num_clusters + 1)
        behind = (self._left[row.level, left] + self._above[row.level, above]) // 2
        counts = self.context_counts[row.level, row.number]
        return self._smoothed(counts, behind, self.smoothing[3, row.level])

    @staticmethod
    def _smoothed(counts: NDArray[np.uint32], behind: Weights, smoothing: np.int64) -> Weights:
        return counts * np.int64(SCALE) + smoothing * behind

    @cached_property
    def _static(self) -> Weights:
        smoothing = self.smoothing[0][:, None]
        total = 16 * self.usage.sum(axis=1, keepdims=True) + self.codebook_size * smoothing
        # In two steps, so that no product leaves 64 bits.
        share, rest = np.divmod((16 * self.usage + smoothing) * np.int64(1 << 12), total)
        return share * np.int64(1 << 12) + rest * np.int64(1 << 12) // total + 1

    @cached_property
    def _left(self) -> Weights:
        return self._one_sided(axis=2)

    @cached_property
    def _above(self) -> Weights:
        return self._one_sided(axis=1)

    def _one_sided(self, axis: int) -> Weights:
        """b of the class's formulas, (depth, C + 1, K): of one neighbour, the other summed out."""
        sides = self.num_clusters + 1
        joint = self.context_counts.reshape(self.depth, sides, sides, self.codebook_size)
        counts = joint.sum(axis=axis, dtype=np.int64)
        smoothing = self.smoothing[2][:, None, None]
        weights = counts * np.int64(SCALE) + smoothing * self._static[:, None, :]
        return weights // (counts.sum(axis=-1, keepdims=True) + smoothing) + 1


def _digest(coder: str, *arrays: NDArray[Any]) -> str:
    sha = hashlib.sha256(f"vqtok {coder} 1".encode())
    for array in arrays:
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        sha.update(f" {little.dtype.name} {little.shape} ".encode() + little.tobytes())
    return sha.hexdigest()[:ID_DIGITS]
