"""Objectives: the weighted sum that the papers write down."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models import Reconstruction
from models.quantizers import Quantized
from training.objectives import OBJECTIVES, Loss, build_objective


def reconstruction(error: float, **terms: float) -> tuple[Tensor, Reconstruction]:
    """Pixels and a reconstruction that is off by `error` everywhere."""
    pixels = torch.full((2, 3, 4, 4), 0.25)
    nothing = torch.zeros(2, 4, 1, 1)
    quantized = Quantized(
        z_q=nothing,
        indices=torch.zeros(2, 1, 1, dtype=torch.int64),
        z_e=nothing,
        terms={name: torch.tensor(value, requires_grad=True) for name, value in terms.items()},
        statistics={},
    )
    return pixels, Reconstruction((pixels + error).requires_grad_(), quantized)


def loss_of(name: str, weights: dict[str, float], error: float, **terms: float) -> Loss:
    return build_objective(name, weights)(*reconstruction(error, **terms))


@pytest.mark.parametrize(
    ("name", "weights", "terms", "expected"),
    [
        ("vqvae", {}, {"codebook": 2.0, "commitment": 4.0}, 0.25 + 2.0 + 0.25 * 4.0),
        (
            "vqvae",
            {"codebook": 0.5, "commitment": 3.0},
            {"codebook": 2.0, "commitment": 4.0},
            13.25,
        ),
        ("vqvae", {}, {"commitment": 4.0}, 0.25 + 0.25 * 4.0),
        ("albo", {}, {"commitment": 4.0, "usage": 2.0}, 0.25 + 1e-3 * (4.0 + 2.0)),
        ("albo", {"gamma": 0.1, "beta": 5.0}, {"commitment": 4.0, "usage": 2.0}, 0.25 + 0.1 * 14.0),
    ],
)
def test_the_total_is_the_weighted_sum(
    name: str, weights: dict[str, float], terms: dict[str, float], expected: float
) -> None:
    loss = loss_of(name, weights, 0.5, **terms)
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-6)
    assert {k: float(v) for k, v in loss.parts.items()} == {"mse": 0.25, **terms}


def test_the_gradient_of_each_term_is_its_weight() -> None:
    pixels, made = reconstruction(0.5, commitment=4.0, usage=2.0)
    build_objective("albo", {"gamma": 0.1, "beta": 5.0})(pixels, made).total.backward()
    terms = made.quantized.terms
    assert terms["commitment"].grad == pytest.approx(0.1)
    assert terms["usage"].grad == pytest.approx(0.5)
    assert made.x_hat.grad is not None
    assert torch.allclose(made.x_hat.grad, torch.tensor(2 * 0.5 / 96))


def test_the_parts_carry_no_gradient() -> None:
    loss = loss_of("vqvae", {}, 0.1, codebook=1.0, commitment=1.0)
    assert not any(part.requires_grad for part in loss.parts.values())


def test_half_precision_reconstructions_are_compared_in_float32() -> None:
    pixels, made = reconstruction(0.5, commitment=0.0)
    half = made._replace(x_hat=made.x_hat.bfloat16())
    loss = build_objective("vqvae", {})(pixels, half)
    assert loss.total.dtype == torch.float32
    assert math.isclose(float(loss.total.detach()), 0.25)


def test_an_unknown_objective_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'elbo'.*vqvae, albo"):
        build_objective("elbo", {})


@pytest.mark.parametrize(("name", "weight"), [("vqvae", "beta"), ("albo", "commitment")])
def test_an_unknown_weight_is_named(name: str, weight: str) -> None:
    with pytest.raises(ValueError, match=rf"objective {name}: .*'{weight}'"):
        build_objective(name, {weight: 1.0})


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_defaults(name: str) -> None:
    terms: dict[str, Any] = {"codebook": 1.0, "commitment": 1.0, "usage": 1.0}
    terms = terms if name == "albo" else {"codebook": 1.0, "commitment": 1.0}
    assert float(loss_of(name, {}, 0.0, **terms).total.detach()) > 0.0
