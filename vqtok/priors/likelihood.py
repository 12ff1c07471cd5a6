"""How many bits grids that are there take under a prior, exactly."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.priors.choice import BITS, log_softmax
from vqtok.priors.prior import Prior

Tokens = NDArray[np.int32]
MOST_LOGITS = 1 << 22
"""So many at a time, in float64 32 MiB."""


def revealed(prior: Prior, tokens: Tokens) -> Iterator[tuple[Tokens, NDArray[np.int32]]]:
    """For each group of the schedule, what the prior sees of tokens (n, N): K where a token is not
    known yet; and the positions (P,) of the group.

    Before a group is asked for, all earlier ones must have been filled in: whoever reads tokens
    does not have the rest of them.
    """
    for group in range(int(prior.groups.max()) + 1):
        seen = np.where(prior.groups < group, tokens, prior.codebook_size).astype(np.int32)
        yield seen, np.flatnonzero(prior.groups == group).astype(np.int32)


def logits_of(
    prior: Prior, seen: Tokens, positions: NDArray[np.int32], labels: NDArray[np.int32]
) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """The logits (m, P, K) at the positions (P,) of all that is seen (n, N), given labels (n,),
    some rows at a time. Which rows go together depends on n, P and K alone.

    Raises:
        ModelFailure: the runtime failed.
    """
    step = max(1, MOST_LOGITS // (len(positions) * prior.codebook_size))
    for first in range(0, len(seen), step):
        rows = slice(first, first + step)
        asked = np.tile(positions, (len(seen[rows]), 1))
        yield rows, prior.logits(seen[rows], labels[rows], asked)


def unlabelled(prior: Prior, count: int) -> NDArray[np.int32]:
    """Labels (count,) that say nothing."""
    return np.full(count, len(prior.labels), np.int32)


def bits_of(
    prior: Prior, tokens: NDArray[Any], labels: NDArray[np.integer] | None = None
) -> NDArray[np.float64]:
    """-log2 p of each of the native grids (n, *grid), float64 (n,), given labels (n,) or without.

    Raises:
        ModelFailure: the runtime failed.
    """
    flat = np.ascontiguousarray(tokens, np.int32).reshape(len(tokens), -1)
    given = unlabelled(prior, len(flat)) if labels is None else labels.astype(np.int32)
    bits = np.zeros(len(flat))
    for seen, positions in revealed(prior, flat):
        for rows, logits in logits_of(prior, seen, positions, given):
            bits[rows] += bits_of_codes(logits, flat[rows, positions])
    return bits


def bits_of_codes(logits: NDArray[Any], codes: NDArray[np.integer]) -> NDArray[np.float64]:
    """-log2 p of codes (n, P) under logits (n, P, K), float64 (n,)."""
    log_p = log_softmax(logits)
    chosen = np.take_along_axis(log_p, codes[..., None].astype(np.int64), axis=-1)
    return -chosen[..., 0].sum(axis=1) * BITS
