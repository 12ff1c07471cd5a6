"""Bits of grids that are there: those of the joint distribution, term by term."""

import numpy as np
import pytest

from tests.vqtok.priors.joint import JointPrior
from vqtok.priors import Wish, draw_all
from vqtok.priors import likelihood as likelihood_module
from vqtok.priors.likelihood import bits_of, revealed

TWO_GROUPS = (0, 1, 1, 0)


@pytest.mark.parametrize("groups", [(0, 1, 2, 3), TWO_GROUPS, (0, 0, 0, 0)])
def test_bits_are_those_of_the_factorisation_and_all_grids_share_one(
    groups: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    prior = JointPrior(groups)
    for most in (1, 40, 1 << 22):
        monkeypatch.setattr(likelihood_module, "MOST_LOGITS", most)
        for label in (0, 1, None):
            labels = None if label is None else np.full(81, label)
            bits = bits_of(prior, prior.grids.reshape(81, 2, 2), labels)
            number = 2 if label is None else label
            expected = [-prior.log_prob(grid, number) / np.log(2) for grid in prior.grids]
            assert np.allclose(bits, expected, atol=1e-5)
            assert np.exp2(-bits).sum() == pytest.approx(1, abs=1e-5)


def test_a_sample_takes_the_bits_that_the_sampler_said() -> None:
    prior = JointPrior(TWO_GROUPS)
    drawn = draw_all(prior, Wish(30, seed=2))
    assert np.allclose(bits_of(prior, drawn.tokens), drawn.bits, atol=1e-9)


def test_what_is_revealed_late_is_never_seen_before() -> None:
    prior = JointPrior(TWO_GROUPS)
    tokens = np.array([[0, 1, 2, 0]], np.int32)
    seen = []
    for known, positions in revealed(prior, tokens):
        seen.append((known.tolist(), positions.tolist()))
        tokens[:, positions] = 1
    assert seen == [([[3, 3, 3, 3]], [0, 3]), ([[1, 3, 3, 1]], [1, 2])]
