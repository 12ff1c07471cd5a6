"""From the logits of a position to a code: guidance, temperature, top-k, top-p, and the draw.

Everything is float64. In float32 the draw by Gumbel numbers lowers the temperature without a word
(Zheng et al. 2024, arXiv 2409.02908).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidParameter

Probabilities = NDArray[np.float64]

BITS = 1.0 / math.log(2.0)
"""Bits of a nat."""


@dataclass(frozen=True)
class SamplingRule:
    """How the model's distribution is changed before a code is drawn, in this order:

    cfg_scale w: l_u + (1 + w)(l_c - l_u), away from what the model says without the label (Ho and
    Salimans 2022); 0 is the model given the label. temperature: logits are divided by it; 0 takes
    the likeliest code. top_k: only the k likeliest; 0 is all. top_p: only the likeliest whose
    probabilities reach p; 1 is all.

    Raises:
        InvalidParameter: a number outside its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    cfg_scale: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InvalidParameter("temperature must be a finite number of at least 0.")
        if self.top_k < 0:
            raise InvalidParameter("top_k must be at least 0; 0 leaves all codes.")
        if not 0 < self.top_p <= 1:
            raise InvalidParameter("top_p must be above 0 and at most 1.")
        if not (math.isfinite(self.cfg_scale) and self.cfg_scale >= 0):
            raise InvalidParameter("cfg_scale must be a finite number of at least 0.")

    @property
    def is_model(self) -> bool:
        """Whether it leaves the model's distribution as it is."""
        return self == SamplingRule()


@dataclass(frozen=True, eq=False)
class Chosen:
    """codes int32 (P,); nats float64: log p of all of them under the model, and under the
    distribution of the rule.
    """

    codes: NDArray[np.int32]
    model_nats: float
    rule_nats: float


def choose(
    rule: SamplingRule,
    logits: NDArray[Any],
    unconditional: NDArray[Any] | None,
    uniforms: Probabilities,
) -> Chosen:
    """A code for each row of logits (P, K), at numbers in [0, 1) (P,). `unconditional` are the
    logits without the label, where the rule has a cfg_scale.
    """
    if rule.is_model:
        return _of_model(logits, uniforms)
    log_p = log_softmax(logits)
    other = None if unconditional is None else log_softmax(unconditional)
    log_q = changed(rule, log_p, other)
    codes = drawn(log_q, uniforms)
    rows = np.arange(len(codes))
    return Chosen(codes, float(log_p[rows, codes].sum()), float(log_q[rows, codes].sum()))


def _of_model(logits: NDArray[Any], uniforms: Probabilities) -> Chosen:
    """As `choose` by the model itself, with a single exponential of each logit."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    cumulative = np.exp(shifted).cumsum(axis=-1)
    total = cumulative[:, -1].copy()
    cumulative /= total[:, None]
    codes = _above(cumulative, uniforms)
    nats = float((shifted[np.arange(len(codes)), codes] - np.log(total)).sum())
    return Chosen(codes, nats, nats)


def log_softmax(logits: NDArray[Any]) -> Probabilities:
    """log p of logits (…, K), float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def changed(
    rule: SamplingRule, log_p: Probabilities, unconditional: Probabilities | None
) -> Probabilities:
    """log p (P, K) under a rule, -inf where a code cannot be drawn. `unconditional` is log p
    without the label, where the rule has a cfg_scale.
    """
    if unconditional is not None:
        log_p = unconditional + (1.0 + rule.cfg_scale) * (log_p - unconditional)
    if rule.temperature == 0:
        return _only_the_likeliest(log_p)
    if rule.temperature != 1:
        # The likeliest is at 0 first: a small temperature then overflows none.
        log_p = (log_p - log_p.max(axis=-1, keepdims=True)) / rule.temperature
    if rule.top_k:
        log_p = _top_k(log_p, rule.top_k)
    log_p = log_softmax(log_p)
    return log_softmax(_top_p(log_p, rule.top_p)) if rule.top_p < 1 else log_p


def drawn(log_p: Probabilities, uniforms: Probabilities) -> NDArray[np.int32]:
    """Codes int32 (P,) of log p (P, K) by the inverse of the distribution function, at numbers in
    [0, 1) (P,).
    """
    return _above(_distribution(log_p), uniforms)


def drawn_together(log_p: Probabilities, uniforms: Probabilities) -> NDArray[np.int64]:
    """Codes int64 of one log p (K,) at numbers of any shape: those that `drawn` gives."""
    return np.searchsorted(_distribution(log_p), uniforms, side="right")


def _above(cumulative: Probabilities, uniforms: Probabilities) -> NDArray[np.int32]:
    # Above, not at: a code of probability 0 is never drawn.
    return (cumulative > uniforms[:, None]).argmax(axis=-1).astype(np.int32)


def _distribution(log_p: Probabilities) -> Probabilities:
    cumulative = np.exp(log_p).cumsum(axis=-1)
    return cumulative / cumulative[..., -1:]


def _only_the_likeliest(log_p: Probabilities) -> Probabilities:
    result = np.full_like(log_p, -np.inf)
    np.put_along_axis(result, log_p.argmax(axis=-1)[:, None], 0.0, axis=-1)
    return result


def _top_k(log_p: Probabilities, k: int) -> Probabilities:
    if k >= log_p.shape[-1]:
        return log_p
    order = np.argsort(-log_p, axis=-1, kind="stable")
    result = log_p.copy()
    np.put_along_axis(result, order[:, k:], -np.inf, axis=-1)
    return result


def _top_p(log_p: Probabilities, share: float) -> Probabilities:
    order = np.argsort(-log_p, axis=-1, kind="stable")
    p = np.exp(np.take_along_axis(log_p, order, axis=-1))
    # A code stays while those before it have not reached the share: the first always does.
    is_out = p.cumsum(axis=-1) - p >= share
    result = log_p.copy()
    np.put_along_axis(
        result, order, np.where(is_out, -np.inf, np.take_along_axis(log_p, order, axis=-1)), axis=-1
    )
    return result
