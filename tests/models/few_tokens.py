"""A few tokens in float64 with noise that is known, and comparisons with the formulas for them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.quantizers.base import to_tokens
from models.randomness import GUMBEL_STREAM, Noise, Progress
from tests.models.oracle import Array, Indices

SAMPLES, SIDE, NUM_STEPS = 3, 2, 10
TOKENS_PER_SAMPLE = SIDE * SIDE
TOKENS = SAMPLES * TOKENS_PER_SAMPLE


def progress(step: int = 3, samples: tuple[int, ...] = (4, 11, 2)) -> Progress:
    return Progress(step, NUM_STEPS, Noise(7, step, torch.tensor(samples)))


def many(samples: int) -> Progress:
    """For `samples` samples."""
    return Progress(0, 1, Noise(0, 0, torch.arange(samples)))


def gumbel_of(given: Progress, codebook_size: int) -> Array:
    drawn = given.noise.gumbel(GUMBEL_STREAM, TOKENS_PER_SAMPLE * codebook_size)
    return drawn.reshape(-1, codebook_size).double().numpy()


def random_head(channels: int, seed: int = 1) -> Tensor:
    """(SAMPLES, channels, SIDE, SIDE) float64, which wants its gradient."""
    generator = torch.Generator().manual_seed(seed)
    shape = (SAMPLES, channels, SIDE, SIDE)
    return torch.randn(shape, dtype=torch.double, generator=generator).requires_grad_()


def tokens_of(x: Tensor) -> Array:
    """(N, C) of (B, C, h, w)."""
    return to_tokens(x.detach()).numpy()


def pulled(z_q: Tensor) -> tuple[Tensor, Array]:
    """<pull, z_q> for a fixed random pull, and the pull as (N, D)."""
    pull = torch.randn(z_q.shape, generator=torch.Generator().manual_seed(2)).double()
    return (pull * z_q).sum(), to_tokens(pull).numpy()


def assert_close(got: Any, expected: Any, rtol: float = 1e-9) -> None:
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol / 100)


def assert_gradients(got: Sequence[Tensor | Array], expected: Sequence[Array]) -> None:
    """Autograd's against central differences, none of which may be all but zero."""
    for ours, theirs in zip(got, expected, strict=True):
        assert np.abs(theirs).max() > 1e-4
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def assert_frequencies(counts: Array | Indices, probabilities: Array) -> None:
    """Within 4.5 standard errors of independent draws, and with Pearson's χ² in its bounds."""
    total, degrees = counts.sum(), len(probabilities) - 1
    error = 4.5 * np.sqrt(probabilities * (1 - probabilities) / total)
    assert (np.abs(counts / total - probabilities) <= error).all()
    chi2 = ((counts - total * probabilities) ** 2 / (total * probabilities)).sum()
    assert chi2 < degrees + 4.5 * np.sqrt(2.0 * degrees)
