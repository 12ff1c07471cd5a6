"""Statistics of a codebook: how its codes are used, and how far apart they lie.

All of it is from hard tokens, pooled; the number of tokens behind a figure stands beside it,
because perplexity of few tokens is far too low (64 tokens cannot show more than 64 codes).
"""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidTokens

MARGIN_EDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
_DUPLICATE_SHARE = 1e-3
_MEDIAN_CODES = 1024
_BLOCK_VALUES = 1 << 22


@dataclass(frozen=True)
class UsageSummary:
    """How the codes of one codebook are used by `num_tokens` tokens; None where undefined.

    `usage` is the share of codes seen, `perplexity` = exp(H) of the pooled histogram.
    `…_miller_madow` adds (codes seen - 1) / 2n nats, which mends most of the plug-in's lack.
    `dead_codes_by_chance` is how many codes this many independent tokens of the reference
    distribution would miss; None without a reference.
    """

    num_tokens: int
    codebook_size: int
    used_codes: int
    dead_codes: int
    usage: float | None
    entropy_bits: float | None
    entropy_bits_miller_madow: float | None
    perplexity: float | None
    perplexity_miller_madow: float | None
    dead_codes_by_chance: float | None


@dataclass(frozen=True)
class MarginSummary:
    """How clearly tokens won: `counts[i]` margins lie below `edges[i]` and not below the edge
    before it, the last count at or above all edges.
    """

    mean: float | None
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class CodebookDistances:
    """Distances between codes: to the nearest neighbour, and `duplicates`, the number of codes
    that have another within 1e-3 of the median distance between codes.
    """

    nearest_min: float
    nearest_median: float
    nearest_mean: float
    duplicates: int


class UsageCounter:
    """Counts tokens as they pass. Safe for several threads; the memory never grows."""

    def __init__(self, codebook_size: int, depth: int = 1) -> None:
        self._codebook_size = codebook_size
        self._depth = depth
        self._lock = threading.Lock()
        self._counts = np.zeros((depth, codebook_size), np.int64)
        self._margin_counts = np.zeros(len(MARGIN_EDGES) + 1, np.int64)
        self._margin_sum = 0.0

    def add(self, tokens: NDArray[Any], margins: NDArray[np.float32] | None = None) -> None:
        """Count tokens (…, h, w) or, for depth > 1, (…, h, w, depth), and their margins.

        Raises:
            InvalidTokens: a token outside 0 .. K - 1, or another depth.
        """
        if self._depth > 1 and tokens.shape[-1:] != (self._depth,):
            raise InvalidTokens(f"Tokens of shape {tokens.shape} have no depth {self._depth}.")
        levels = tokens.reshape(-1, self._depth)
        if levels.size and not 0 <= int(levels.min()) <= int(levels.max()) < self._codebook_size:
            raise InvalidTokens(f"A token is outside 0 .. {self._codebook_size - 1}.")
        added = [np.bincount(level, minlength=self._codebook_size) for level in levels.T]
        histogram, total = _margin_histogram(margins)
        with self._lock:
            self._counts += np.stack(added)
            self._margin_counts += histogram
            self._margin_sum += total

    def counts(self) -> NDArray[np.int64]:
        """A copy of the counts, (K,) or (depth, K)."""
        with self._lock:
            counts = self._counts.copy()
        return counts if self._depth > 1 else counts[0]

    def summary(self, reference: NDArray[np.int64] | None = None) -> tuple[UsageSummary, ...]:
        """One summary per level of depth; `reference` are the counts of training tokens."""
        counts = self.counts().reshape(self._depth, -1)
        expected = [None] * self._depth if reference is None else reference.reshape(counts.shape)
        return tuple(summarise(c, r) for c, r in zip(counts, expected, strict=True))

    def margins(self) -> MarginSummary:
        """Mean and histogram of all margins so far."""
        with self._lock:
            counts, total = self._margin_counts.copy(), self._margin_sum
        number = int(counts.sum())
        mean = total / number if number else None
        return MarginSummary(mean, MARGIN_EDGES, tuple(int(count) for count in counts))


def summarise(
    counts: NDArray[np.int64], reference: NDArray[np.int64] | None = None
) -> UsageSummary:
    """Statistics of a histogram of tokens (K,), against the histogram of training tokens."""
    num_tokens, codebook_size = int(counts.sum()), len(counts)
    used = int((counts > 0).sum())
    nats = _entropy_nats(counts) if num_tokens else None
    corrected = None if nats is None else nats + (used - 1) / (2 * num_tokens)
    return UsageSummary(
        num_tokens=num_tokens,
        codebook_size=codebook_size,
        used_codes=used,
        dead_codes=codebook_size - used,
        usage=used / codebook_size if num_tokens else None,
        entropy_bits=_bits(nats),
        entropy_bits_miller_madow=_bits(corrected),
        perplexity=_exp(nats),
        perplexity_miller_madow=_exp(corrected),
        dead_codes_by_chance=_expected_dead(reference, num_tokens),
    )


def codebook_distances(codebook: NDArray[np.float32]) -> CodebookDistances:
    """Euclidean distances within a code table (K, D), K at least 2.

    The median distance, by which duplicates are judged, is taken over at most 1024 codes spread
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
        duplicates=int((nearest <= _DUPLICATE_SHARE * median).sum()),
    )


def _distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * (a @ b.T)
    return np.sqrt(np.maximum(squares, 0))


def _entropy_nats(counts: NDArray[np.int64]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return max(0.0, float(-(shares * np.log(shares)).sum()))


def _expected_dead(reference: NDArray[np.int64] | None, num_tokens: int) -> float | None:
    if reference is None or not reference.sum():
        return None
    shares = reference / reference.sum()
    # log1p(-1) is -inf for a table of one code only; its power is 0 all the same.
    with np.errstate(divide="ignore", invalid="ignore"):
        missed = np.exp(num_tokens * np.log1p(-shares)) if num_tokens else np.ones(len(shares))
    return float(missed.sum())


def _margin_histogram(margins: NDArray[np.float32] | None) -> tuple[NDArray[np.int64], float]:
    if margins is None:
        return np.zeros(len(MARGIN_EDGES) + 1, np.int64), 0.0
    bins = np.searchsorted(MARGIN_EDGES, margins.reshape(-1), side="right")
    return np.bincount(bins, minlength=len(MARGIN_EDGES) + 1), float(margins.sum(dtype=np.float64))


def _bits(nats: float | None) -> float | None:
    return None if nats is None else float(nats / np.log(2))


def _exp(nats: float | None) -> float | None:
    return None if nats is None else float(np.exp(nats))
