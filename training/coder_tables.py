"""The tables of the entropy coders, estimated on training tokens.

What cannot be counted is measured: how strongly counts are smoothed, into how many clusters codes
are put for contexts, and by what, is what gives held-out tokens the fewest bits.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.code_clusters import CLUSTERINGS, Clusters, Neighbours
from vqtok.bitstream.tables import CoderTables

Tokens = NDArray[np.integer]
Counts = NDArray[np.int64]
Progressed = Callable[[Sequence[Any]], Iterator[Any]]
NUM_CLUSTERS = (8, 16, 32, 64)
"""More clusters tell more of a neighbour, and leave fewer training tokens for each context."""
MOST_ENTRIES = 1 << 24
STATIC_SMOOTHING = tuple(1 << power for power in range(0, 17, 2))
SMOOTHING = tuple(1 << power for power in range(4, 17))
ENOUGH = 1.002
"""A smaller table is taken where it costs at most this much more."""
HELD_OUT_TOKENS = 1 << 19


@dataclass(frozen=True, eq=False)
class _Level:
    """One level of depth: static probabilities (K,), and training and held-out tokens (n, h, w)."""

    static: NDArray[np.float64]
    training: Tokens
    held_out: Tokens


@dataclass(frozen=True, eq=False)
class _Contexts:
    """One way to form contexts: clusters, counts (depth, (C + 1)², K), n_b and n_c (depth,), and
    the held-out bits of all levels.
    """

    clusters: NDArray[np.uint16]
    counts: NDArray[np.uint32]
    behind: list[int]
    smoothing: list[int]
    bits: float


def estimate_tables(
    position_counts: NDArray[np.uint32],
    training: Tokens,
    held_out: Tokens,
    codebook: NDArray[np.float32],
    progressed: Progressed = iter,
) -> CoderTables:
    """The tables of a codebook (K, D) or (depth, K, D).

    `position_counts` are of all training tokens. `training` (n, h, w[, depth]) may be a part of
    them; contexts are counted on it. `held_out` (m, h, w[, depth]) decides what is chosen.
    """
    codes, depth = codebook.shape[-2], 1 if codebook.ndim == 2 else codebook.shape[0]
    places = position_counts.reshape(*position_counts.shape[:2], depth, codes)
    usage = places.sum(axis=(0, 1), dtype=np.int64)
    few = held_out[: max(1, HELD_OUT_TOKENS // max(1, held_out[0].size))]
    parts = [part.reshape(*part.shape[:3], depth) for part in (training, few)]
    static = [_best_static(usage[each], parts[1][..., each]) for each in range(depth)]
    levels = [
        _Level(_static(usage[each], static[each]), *(part[..., each] for part in parts))
        for each in range(depth)
    ]
    position = [
        _best_position(places[:, :, each], levels[each].static, levels[each].held_out)
        for each in range(depth)
    ]
    contexts = _best_contexts(levels, codebook.reshape(depth, codes, -1), progressed)
    smoothing = np.array([static, position, contexts.behind, contexts.smoothing], np.int64)
    return CoderTables(usage, places, contexts.clusters, contexts.counts, smoothing)


def _static(usage: Counts, smoothing: int) -> NDArray[np.float64]:
    weights = 16 * usage + smoothing
    return weights / weights.sum()


def _best_static(usage: Counts, held_out: Tokens) -> int:
    return min(STATIC_SMOOTHING, key=lambda each: _bits(_static(usage, each)[held_out]))


def _best_position(
    counts: NDArray[np.uint32], static: NDArray[np.float64], held_out: Tokens
) -> int:
    if held_out.shape[1:] != counts.shape[:2]:
        return SMOOTHING[-1]
    rows, columns = np.indices(counts.shape[:2])
    seen = counts[rows, columns, held_out].astype(np.float64)
    totals = counts.sum(axis=-1, dtype=np.float64)
    return min(
        SMOOTHING, key=lambda each: _bits((seen + each * static[held_out]) / (totals + each))
    )


def _best_contexts(
    levels: list[_Level],
    codebook: NDArray[np.float32],
    progressed: Progressed,
) -> _Contexts:
    """The contexts with the fewest held-out bits, or nearly so with a smaller table."""
    codes = codebook.shape[1]
    neighbours = [Neighbours.of(level.training, codes) for level in levels]
    kinds = [
        (kind, count)
        for count in NUM_CLUSTERS
        for kind in CLUSTERINGS
        if count == NUM_CLUSTERS[0]
        or (count < codes and len(levels) * (count + 1) ** 2 * codes <= MOST_ENTRIES)
    ]
    found: list[_Contexts] = []
    for kind, count in progressed(kinds):
        clusters = [
            CLUSTERINGS[kind](min(count, codes), table, each)
            for table, each in zip(codebook, neighbours, strict=True)
        ]
        found.append(_measured(levels, clusters, min(count, codes)))
    fewest = min(each.bits for each in found)
    good = [each for each in found if each.bits <= ENOUGH * fewest]
    return min(good, key=lambda each: (each.counts.shape[1], each.bits))


def _measured(levels: list[_Level], clusters: list[Clusters], count: int) -> _Contexts:
    each = [_one_level(level, own, count) for level, own in zip(levels, clusters, strict=True)]
    return _Contexts(
        np.stack(clusters).astype(np.uint16),
        np.stack([one.counts[0] for one in each]),
        [one.behind[0] for one in each],
        [one.smoothing[0] for one in each],
        sum(one.bits for one in each),
    )


def _one_level(level: _Level, clusters: Clusters, count: int) -> _Contexts:
    """Counts of one level, and the smoothing that is best for them: first of what lies behind the
    contexts, as if there was nothing else, then of the contexts themselves.
    """
    codes, sides = len(level.static), count + 1
    counts = count_contexts(level.training, clusters, count, codes)
    joint = counts.reshape(sides, sides, codes)
    left, above = contexts_of(level.held_out, clusters, count)
    tokens, static = level.held_out, level.static[level.held_out]
    seen_left, all_left = _gathered(joint.sum(axis=1), left, tokens)
    seen_above, all_above = _gathered(joint.sum(axis=0), above, tokens)

    def behind(smoothing: int) -> NDArray[np.float64]:
        by_left = (seen_left + smoothing * static) / (all_left + smoothing)
        by_above = (seen_above + smoothing * static) / (all_above + smoothing)
        return (by_left + by_above) / 2

    first = min(SMOOTHING, key=lambda each: _bits(behind(each)))
    seen, total = _gathered(counts, left * sides + above, tokens)
    mixed = behind(first)
    bits = {each: _bits((seen + each * mixed) / (total + each)) for each in SMOOTHING}
    second = min(SMOOTHING, key=lambda each: bits[each])
    return _Contexts(
        clusters.astype(np.uint16), counts.astype(np.uint32)[None], [first], [second], bits[second]
    )


def contexts_of(tokens: Tokens, clusters: Clusters, count: int) -> tuple[Counts, Counts]:
    """The clusters left of and above each of the tokens (n, h, w); `count` beyond the edge."""
    around = np.full((len(tokens), tokens.shape[1] + 1, tokens.shape[2] + 1), count, np.int64)
    around[:, 1:, 1:] = clusters[tokens]
    return around[:, 1:, :-1], around[:, :-1, 1:]


def count_contexts(tokens: Tokens, clusters: Clusters, count: int, codes: int) -> Counts:
    """How often each code stands in each context, int64 ((C + 1)², K)."""
    sides = count + 1
    total = np.zeros((sides * sides, codes), np.int64)
    step = max(1, (1 << 22) // tokens[0].size)
    for start in range(0, len(tokens), step):
        part = tokens[start : start + step]
        left, above = contexts_of(part, clusters, count)
        places = (left * sides + above) * codes + part
        total += np.bincount(places.reshape(-1), minlength=total.size).reshape(total.shape)
    return total


def _gathered(
    counts: Counts, rows: Counts, tokens: Tokens
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts of the tokens in their rows, and the rows' sums."""
    seen = counts[rows, tokens].astype(np.float64)
    return seen, counts.sum(axis=-1)[rows].astype(np.float64)


def _bits(probabilities: NDArray[np.float64]) -> float:
    return float(-np.log2(probabilities).sum())
