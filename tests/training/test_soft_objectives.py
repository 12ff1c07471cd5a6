"""The objectives of SQ-VAE and Gumbel-VQVAE against the formulas that they cite."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models import Reconstruction
from models.quantizers import Posterior, Quantized
from training.objectives import build_objective

BATCH, SIDE, GRID = 4, 8, 2
D_X, TOKENS = 3 * SIDE * SIDE, GRID * GRID


def batch(scale: float = 0.3, **terms: float) -> tuple[Tensor, Reconstruction]:
    """float32 pixels and a reconstruction that is off by about `scale`."""
    torch.manual_seed(0)
    pixels = torch.rand(BATCH, 3, SIDE, SIDE)
    x_hat = pixels + scale * torch.randn(pixels.shape)
    vectors = torch.zeros(BATCH, 5, GRID, GRID)
    quantized = Quantized(
        z_q=vectors,
        indices=torch.zeros(BATCH, GRID, GRID, dtype=torch.int64),
        z_e=vectors,
        terms={name: torch.tensor(value, requires_grad=True) for name, value in terms.items()},
        posterior=Posterior(torch.tensor([0.75, 0.25], requires_grad=True), torch.tensor(0.5)),
        statistics={},
    )
    return pixels, Reconstruction(x_hat.requires_grad_(), quantized)


TERMS = {"discrete": 3.0, "continuous": 5.0}


def written(pixels: Tensor, x_hat: Tensor, terms: dict[str, Tensor]) -> Tensor:
    """(D_x/2 log E + Σ over tokens of the terms) / D_x, in float64; E per image, mean over them."""
    error = (x_hat.double() - pixels.double()).square().sum((1, 2, 3)).mean()
    rates = TOKENS * (terms["discrete"].double() + terms["continuous"].double())
    return (D_X / 2 * error.log() + rates) / D_X


def gradients(total: Tensor, made: Reconstruction) -> tuple[Tensor, ...]:
    return torch.autograd.grad(total, (made.x_hat, *made.quantized.terms.values()))


def test_sqvae_is_the_written_formula_and_so_is_its_gradient() -> None:
    pixels, made = batch(**TERMS)
    total = build_objective("sqvae", {})(pixels, made, 0.0).total
    expected = written(pixels, made.x_hat, made.quantized.terms)
    assert float(total.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    for ours, theirs in zip(gradients(total, made), gradients(expected, made), strict=True):
        assert theirs.abs().max() > 1e-6
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9)


def test_sqvae_reports_plain_figures() -> None:
    """The squared error on [0, 1], and the terms a token, as every other method has them."""
    pixels, made = batch(**TERMS)
    parts = build_objective("sqvae", {"discrete": 0.1})(pixels, made, 0.0).parts
    assert float(parts["mse"]) == pytest.approx(
        float((made.x_hat.detach() - pixels).square().mean())
    )
    assert {name: float(parts[name]) for name in TERMS} == TERMS
    assert not any(part.requires_grad for part in parts.values())


@pytest.mark.parametrize(
    ("options", "fraction", "added"),
    [
        ({"discrete": 0.5, "continuous": 2.0}, 0.0, TOKENS / D_X * 11.5),
        ({"discrete": {"start": 0.0, "end": 1.0}, "continuous": 0.0}, 0.25, TOKENS / D_X * 0.75),
        ({"discrete": 0.0, "continuous": 0.0, "usage_pressure": 2.0}, 0.0, -2.0),
    ],
)
def test_sqvae_weighs_its_terms(options: dict[str, Any], fraction: float, added: float) -> None:
    pixels, made = batch(**TERMS)
    alone = build_objective("sqvae", {"discrete": 0.0, "continuous": 0.0})(pixels, made, 0.0)
    total = build_objective("sqvae", options)(pixels, made, fraction).total
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    expected = added * entropy if "usage_pressure" in options else added
    assert float((total - alone.total).detach()) == pytest.approx(expected, rel=1e-5)


def test_sqvae_takes_the_error_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logarithm of a mean is not the mean of logarithms."""
    monkeypatch.setattr("training.objectives.sqvae.global_mean", lambda error: (error + 3.0) / 2)
    pixels, made = batch(**dict.fromkeys(TERMS, 0.0))
    own = float((made.x_hat.detach() - pixels).square().mean())
    total = build_objective("sqvae", {})(pixels, made, 0.0).total
    assert float(total.detach()) == pytest.approx(0.5 * math.log(D_X * (own + 3.0) / 2), rel=1e-6)


def test_sqvae_of_a_perfect_reconstruction_is_finite() -> None:
    pixels, made = batch(scale=0.0, **TERMS)
    total = build_objective("sqvae", {})(pixels, made, 0.0).total
    assert total.isfinite()
    assert all(part.isfinite().all() for part in gradients(total, made))


def test_sqvae_of_half_precision_is_computed_in_float32() -> None:
    pixels, made = batch(**TERMS)
    half = made._replace(x_hat=made.x_hat.bfloat16())
    total = build_objective("sqvae", {})(pixels, half, 0.0).total
    assert total.dtype == torch.float32
    expected = written(pixels, half.x_hat, made.quantized.terms)
    assert float(total.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


@pytest.mark.parametrize(
    ("fraction", "weight"), [(0.0, 0.0), (0.05, 3.15e-5), (0.1, 6.3e-5), (0.9, 6.3e-5)]
)
def test_gumbels_divergence_comes_in_over_the_first_tenth(fraction: float, weight: float) -> None:
    pixels, made = batch(divergence=2.0)
    total = build_objective("gumbel", {})(pixels, made, fraction).total
    error = (made.x_hat - pixels).square().mean()
    assert float((total - error).detach()) == pytest.approx(2.0 * weight, abs=1e-7)
    of_x_hat, of_term = gradients(total, made)
    assert float(of_term) == pytest.approx(weight)
    torch.testing.assert_close(of_x_hat, torch.autograd.grad(error, made.x_hat)[0])


@pytest.mark.parametrize(("name", "term"), [("sqvae", "discrete"), ("gumbel", "divergence")])
def test_terms_of_another_method_are_named(name: str, term: str) -> None:
    with pytest.raises(ValueError, match=f"no term '{term}'; it has commitment"):
        build_objective(name, {})(*batch(commitment=1.0), 0.0)
