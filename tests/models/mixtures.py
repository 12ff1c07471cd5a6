"""GM-VQ on a few tokens in float64, its formulas beside it, and gradients by differences."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.information import entropy
from models.quantizers import Quantized
from models.quantizers.base import to_tokens
from models.quantizers.gmvq import GaussianMixtureQuantizer
from models.randomness import GUMBEL_STREAM, NORMAL_STREAM, Noise, Progress
from tests.models.oracle import Array, Mixture, numeric_gradient

K, D, SAMPLES, SIDE, NUM_STEPS = 5, 3, 3, 2, 10
TOKENS = SAMPLES * SIDE * SIDE
Loss = Callable[[Quantized], Tensor]


def build(**options: Any) -> GaussianMixtureQuantizer:
    torch.manual_seed(0)
    quantizer = GaussianMixtureQuantizer(K, D, **options).double()
    nn.init.normal_(quantizer.codebook, mean=2.0)
    return quantizer


def random_head(quantizer: GaussianMixtureQuantizer) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (SAMPLES, quantizer.head_channels, SIDE, SIDE)
    head = torch.randn(shape, dtype=torch.double, generator=generator)
    head[:, :D] += 2.0
    return head.requires_grad_()


def progress(step: int = 3, seed: int = 7) -> Progress:
    return Progress(step, NUM_STEPS, Noise(seed, step, torch.tensor([4, 11, 2])))


def formula(quantizer: GaussianMixtureQuantizer, head: Tensor, gumbel: Array | float) -> Mixture:
    return Mixture(
        heads=to_tokens(head.detach()).numpy(),
        codebook=quantizer.codebook.detach().numpy(),
        offset=float(quantizer.offset),
        two_sigma2=quantizer.two_sigma2,
        gumbel=gumbel,
    )


def gumbel_of(given: Progress) -> Array:
    per_sample = SIDE * SIDE * K
    return given.noise.gumbel(GUMBEL_STREAM, per_sample).reshape(-1, K).double().numpy()


def epsilon_of(given: Progress) -> Array:
    per_sample = SIDE * SIDE * D
    return given.noise.normal(NORMAL_STREAM, per_sample).reshape(-1, D).double().numpy()


def gradients(quantizer: GaussianMixtureQuantizer, head: Tensor, loss: Tensor) -> tuple[Array, ...]:
    of_head, of_codes = torch.autograd.grad(loss, (head, quantizer.codebook))
    return to_tokens(of_head).numpy(), of_codes.numpy()


def numeric_gradients(mixture: Mixture, f: Callable[[Mixture], float]) -> tuple[Array, Array]:
    return (
        numeric_gradient(lambda heads: f(replace(mixture, heads=heads)), mixture.heads),
        numeric_gradient(lambda codes: f(replace(mixture, codebook=codes)), mixture.codebook),
    )


def assert_close(got: Any, expected: Any, rtol: float = 1e-9) -> None:
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol / 10)


def assert_gradients(got: tuple[Array, ...], expected: tuple[Array, ...]) -> None:
    for ours, theirs in zip(got, expected, strict=True):
        assert np.abs(theirs).max() > 1e-3
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def straight_through_gradients(mixture: Mixture, pull: Array) -> tuple[Array, Array]:
    """Of <pull, z_c>: through y @ sg M to the logits, and to the chosen row of M."""
    fixed = mixture.codebook
    of_head, of_codes = numeric_gradients(
        mixture, lambda m: float((pull * m.relaxed_codes(fixed)).sum())
    )
    np.add.at(of_codes, mixture.indices, pull)
    return of_head, of_codes


def divergence(result: Quantized) -> Tensor:
    """KL(q̄ || uniform) in nats."""
    return np.log(K) - entropy(result.posterior.mean)


def pulled(z_q: Tensor) -> tuple[Tensor, Array]:
    """<pull, z_q> for a fixed random pull, and the pull as (N, D)."""
    pull = torch.randn(z_q.shape, generator=torch.Generator().manual_seed(2)).double()
    return (pull * z_q).sum(), to_tokens(pull).numpy()


def noise_gradients(mixture: Mixture, pull: Array, epsilon: Array, kind: str) -> tuple[Array, ...]:
    """Of <pull, σ ε>, the tokens held fixed."""
    chosen = mixture.indices

    def value(m: Mixture) -> float:
        variances = m.variances(chosen)
        variances = variances if kind == "token" else variances.mean()
        return float((pull * np.sqrt(variances + 1e-8) * epsilon).sum())

    return numeric_gradients(mixture, value)
