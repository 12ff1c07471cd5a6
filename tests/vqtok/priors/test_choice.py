"""The rules of sampling against what they say, term by term."""

from typing import Any

import numpy as np
import pytest

from vqtok.errors import InvalidParameter
from vqtok.priors.choice import SamplingRule, changed, drawn, drawn_together, log_softmax

LOGITS = np.random.default_rng(2).normal(size=(5, 12)).astype(np.float32) * 3
LOG_P = log_softmax(LOGITS)


def test_the_model_is_left_alone() -> None:
    p = np.exp(LOGITS.astype(np.float64))
    assert np.allclose(np.exp(LOG_P), p / p.sum(axis=1, keepdims=True), atol=1e-15)
    assert SamplingRule().is_model
    assert np.allclose(changed(SamplingRule(), LOG_P, None), LOG_P, atol=1e-12)


def test_temperature_divides_logits() -> None:
    p = np.exp(LOGITS / 0.4)
    expected = p / p.sum(axis=1, keepdims=True)
    assert np.allclose(np.exp(changed(SamplingRule(0.4), LOG_P, None)), expected, atol=1e-6)


def test_top_k_keeps_the_likeliest_k() -> None:
    result = changed(SamplingRule(top_k=3), LOG_P, None)
    kept = np.isfinite(result)
    assert (kept.sum(axis=1) == 3).all()
    assert (np.where(kept, LOG_P, np.inf).min(1) > np.where(kept, -np.inf, LOG_P).max(1)).all()
    assert np.allclose(np.exp(result).sum(axis=1), 1)
    assert np.allclose(changed(SamplingRule(top_k=99), LOG_P, None), LOG_P)


def test_top_p_keeps_the_fewest_that_reach_the_share() -> None:
    log_p = np.log([[0.5, 0.3, 0.15, 0.05]])
    for share, count in ((0.2, 1), (0.5, 1), (0.51, 2), (0.8, 2), (0.81, 3), (0.99, 4)):
        result = np.exp(changed(SamplingRule(top_p=share), log_p, None))[0]
        assert (result > 0).sum() == count, share
        assert result.sum() == pytest.approx(1)


def test_guidance_comes_first_then_temperature_then_the_cuts() -> None:
    unconditional = log_softmax(np.random.default_rng(3).normal(size=(5, 12)))
    rule = SamplingRule(0.5, top_k=4, top_p=0.9, cfg_scale=2.0)
    scores = (unconditional + 3.0 * (LOG_P - unconditional)) / 0.5
    for row, result in zip(scores, changed(rule, LOG_P, unconditional), strict=True):
        order = np.argsort(-row)[:4]
        p = np.exp(row[order] - row[order].max())
        p /= p.sum()
        count = int((np.cumsum(p) - p < 0.9).sum())
        expected = np.zeros(12)
        expected[order[:count]] = p[:count] / p[:count].sum()
        assert np.allclose(np.exp(result), expected, atol=1e-12)


def test_a_tie_at_temperature_zero_goes_to_the_lowest_code() -> None:
    assert changed(SamplingRule(0.0), np.log([[0.4, 0.4, 0.2]]), None).argmax() == 0


def test_a_draw_inverts_the_distribution_function() -> None:
    log_p = np.log([[0.25, 0.25, 0.5]]).repeat(7, axis=0)
    edges = np.array([0.0, 0.2499, 0.25, 0.4999, 0.5, 0.9999, np.nextafter(1.0, 0.0)])
    expected = [0, 0, 1, 1, 2, 2, 2]
    assert drawn(log_p, edges).tolist() == expected
    assert drawn_together(log_p[0], edges).tolist() == expected


def test_a_code_of_probability_zero_is_never_drawn() -> None:
    with np.errstate(divide="ignore"):
        log_p = np.log([[0.0, 0.5, 0.0, 0.5, 0.0]])
    for toss in (0.0, 0.4999, 0.5, np.nextafter(1.0, 0.0)):
        assert drawn(log_p, np.array([toss]))[0] in (1, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": np.nan},
        {"temperature": np.inf},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"top_p": np.nan},
        {"cfg_scale": -1.0},
        {"cfg_scale": np.inf},
    ],
)
def test_a_rule_outside_its_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=next(iter(options))):
        SamplingRule(**options)
