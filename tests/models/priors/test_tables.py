"""Tables against their formulas in numpy."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.priors import TokenShape, build_prior

COUNTS = np.array([[4, 0, 1], [0, 7, 2], [1, 1, 1], [0, 0, 9]])
SHAPE = TokenShape((2, 2), codebook_size=3)
GRID = torch.tensor([[0, 1, 2, 2]])
NO_LABEL = torch.zeros(1, dtype=torch.long)


def log_prob(name: str, shape: TokenShape = SHAPE, **options: Any) -> NDArray[np.float64]:
    prior = build_prior(name, shape, options)
    prior.begin(torch.from_numpy(COUNTS))
    return prior.log_prob(GRID, NO_LABEL)[0].numpy()


def test_uniform() -> None:
    np.testing.assert_allclose(log_prob("uniform"), np.log(np.full(4, 1 / 3)), rtol=1e-6)


def test_marginal() -> None:
    shares = (COUNTS.sum(0) + 0.5) / (COUNTS.sum() + 1.5)
    np.testing.assert_allclose(log_prob("marginal"), np.log(shares[GRID[0]]), rtol=1e-6)


def test_position() -> None:
    shares = (COUNTS.sum(0) + 0.5) / (COUNTS.sum() + 1.5)
    table = (COUNTS + 2.5 * shares) / (COUNTS.sum(1, keepdims=True) + 2.5)
    expected = np.log(table[np.arange(4), GRID[0]])
    np.testing.assert_allclose(log_prob("position", back_off=2.5), expected, rtol=1e-6)


def test_levels_have_marginals_of_their_own() -> None:
    shape = TokenShape((2, 1, 2), codebook_size=3)
    first = (COUNTS[::2].sum(0) + 0.5) / (COUNTS[::2].sum() + 1.5)
    second = (COUNTS[1::2].sum(0) + 0.5) / (COUNTS[1::2].sum() + 1.5)
    expected = np.log([first[0], second[1], first[2], second[2]])
    np.testing.assert_allclose(log_prob("marginal", shape), expected, rtol=1e-6)


def test_back_off_is_positive() -> None:
    with pytest.raises(ValueError, match="back_off is 0"):
        build_prior("position", SHAPE, {"back_off": 0})
