"""How the codes of one codebook are used, from hard tokens."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


def summarise(
    weights: NDArray[Any],
    reference: NDArray[np.int64] | None = None,
    *,
    num_tokens: int | None = None,
    effective_tokens: float | None = None,
) -> UsageSummary:
    """Statistics of a histogram of tokens (K,), against the counts of reference tokens (K,).

    A histogram of counts says itself how many tokens it holds. Where tokens weigh differently,
    `num_tokens` is their number, and `effective_tokens` the n of the Miller-Madow correction:
    Kish's (sum of weights)² / sum of squared weights.
    """
    total, codebook_size = float(weights.sum()), len(weights)
    tokens = round(total) if num_tokens is None else num_tokens
    used = int((weights > 0).sum())
    nats = entropy_nats(weights) if total else None
    behind = effective_tokens or tokens
    corrected = None if nats is None else nats + (used - 1) / (2 * behind)
    return UsageSummary(
        num_tokens=tokens,
        codebook_size=codebook_size,
        used_codes=used,
        dead_codes=codebook_size - used,
        usage=used / codebook_size if total else None,
        entropy_bits=_bits(nats),
        entropy_bits_miller_madow=_bits(corrected),
        perplexity=_exp(nats),
        perplexity_miller_madow=_exp(corrected),
        dead_codes_by_chance=_expected_dead(reference, tokens),
    )


def entropy_nats(weights: NDArray[Any]) -> float:
    """Entropy of a histogram (any shape), of which at least one entry is above zero."""
    shares = weights[weights > 0] / weights.sum()
    return max(0.0, float(-(shares * np.log(shares)).sum()))


def _expected_dead(reference: NDArray[np.int64] | None, num_tokens: int) -> float | None:
    if reference is None or not reference.sum():
        return None
    shares = reference / reference.sum()
    # log1p(-1) is -inf for a table of one code only; its power is 0 all the same.
    with np.errstate(divide="ignore", invalid="ignore"):
        missed = np.exp(num_tokens * np.log1p(-shares)) if num_tokens else np.ones(len(shares))
    return float(missed.sum())


def _bits(nats: float | None) -> float | None:
    return None if nats is None else float(nats / np.log(2))


def _exp(nats: float | None) -> float | None:
    return None if nats is None else float(np.exp(nats))
