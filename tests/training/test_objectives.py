"""Objectives: the weighted sum that the papers write down."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models import Reconstruction
from models.quantizers import Posterior, Quantized
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
        posterior=Posterior(
            torch.tensor([0.75, 0.25], requires_grad=True), torch.tensor(0.5, requires_grad=True)
        ),
        statistics={},
    )
    return pixels, Reconstruction((pixels + error).requires_grad_(), quantized)


USAGE_ENTROPY = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))


def loss_of(
    name: str, options: dict[str, Any], error: float, *, fraction: float = 0.0, **terms: float
) -> Loss:
    return build_objective(name, options)(*reconstruction(error, **terms), fraction)


VQ_TERMS, ALBO_TERMS = {"codebook": 2.0, "commitment": 4.0}, {"commitment": 4.0}
SOFT_TERMS = {"discrete": 3.0, "continuous": 5.0, "divergence": 7.0}
IBQ_TERMS = {**VQ_TERMS, "assignment": 8.0, "posterior_entropy": 0.5}


@pytest.mark.parametrize(
    ("name", "options", "terms", "expected"),
    [
        ("vqvae", {}, VQ_TERMS, 0.25 + 2.0 + 0.25 * 4.0),
        ("vqvae", {"codebook": 0.5, "commitment": 3.0}, VQ_TERMS, 13.25),
        ("vqvae", {"usage_pressure": -0.5}, VQ_TERMS, 3.25 + 0.5 * USAGE_ENTROPY),
        ("vqvae", {}, {"commitment": 4.0}, 0.25 + 0.25 * 4.0),
        ("ibq", {}, IBQ_TERMS, 0.25 + 8.0 + 4.0 + 0.25 * 2.0 + 0.01 * (0.5 - USAGE_ENTROPY)),
        (
            "ibq",
            {"posterior_entropy": 1.0, "usage_pressure": 2.0},
            IBQ_TERMS,
            13.25 - 2.0 * USAGE_ENTROPY,
        ),
        ("albo", {}, ALBO_TERMS, 0.25 + 1e-3 * (4.0 - USAGE_ENTROPY)),
        ("albo", {"gamma": 0.1, "beta": 5.0}, ALBO_TERMS, 0.25 + 0.1 * (4.0 - 5.0 * USAGE_ENTROPY)),
        ("albo", {"gamma": 0.1, "usage_pressure": 0.5}, ALBO_TERMS, 0.65 - 0.5 * USAGE_ENTROPY),
    ],
)
def test_the_total_is_the_weighted_sum(
    name: str, options: dict[str, Any], terms: dict[str, float], expected: float
) -> None:
    loss = loss_of(name, options, 0.5, **terms)
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-6)
    assert {k: float(v) for k, v in loss.parts.items()} == pytest.approx(
        {"mse": 0.25, "usage_entropy": USAGE_ENTROPY, "posterior_entropy": 0.5, **terms}
    )


def test_the_gradient_of_each_term_is_its_weight() -> None:
    pixels, made = reconstruction(0.5, commitment=4.0)
    build_objective("albo", {"gamma": 0.1, "beta": 5.0})(pixels, made, 0.0).total.backward()
    quantized = made.quantized
    assert quantized.terms["commitment"].grad == pytest.approx(0.1)
    assert quantized.posterior.mean.grad is not None
    expected = 0.5 * (torch.tensor([0.75, 0.25]).log() + 1.0)
    torch.testing.assert_close(quantized.posterior.mean.grad, expected)
    assert made.x_hat.grad is not None
    assert torch.allclose(made.x_hat.grad, torch.tensor(2 * 0.5 / 96))


def test_weights_change_over_training() -> None:
    options = {"gamma": {"start": 0.1, "end": 0.3, "until": 0.5}, "usage_pressure": 0.0}
    totals = [
        float(loss_of("albo", options, 0.0, fraction=f, commitment=1.0).total.detach())
        for f in (0.0, 0.25, 0.5, 0.9)
    ]
    assert totals == pytest.approx([0.1, 0.2, 0.3, 0.3])


def test_a_changing_gamma_takes_the_pressure_along() -> None:
    """β is the ratio of the two."""
    options = {"gamma": {"start": 0.1, "end": 0.3}, "beta": 2.0}
    loss = loss_of("albo", options, 0.0, fraction=0.5, commitment=1.0)
    assert float(loss.total.detach()) == pytest.approx(0.2 - 0.4 * USAGE_ENTROPY)


def test_beta_and_usage_pressure_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"objective albo: .*beta or usage_pressure, not both"):
        build_objective("albo", {"beta": 1.0, "usage_pressure": 0.1})


def test_usage_pressure_on_a_hard_assignment_is_refused() -> None:
    """It would do nothing and look as if it did."""
    pixels, made = reconstruction(0.5, **VQ_TERMS)
    hard = Posterior(torch.tensor([0.5, 0.5]), torch.tensor(0.0))
    z_q = made.quantized.z_q.requires_grad_()
    made = made._replace(quantized=made.quantized._replace(posterior=hard, z_q=z_q))
    with pytest.raises(ValueError, match="usage_pressure needs a soft posterior"):
        build_objective("vqvae", {"usage_pressure": 0.1})(pixels, made, 0.0)


def test_a_term_that_the_quantizer_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="no term 'commitment'; it has codebook"):
        loss_of("albo", {}, 0.0, codebook=1.0)


def test_the_parts_carry_no_gradient() -> None:
    loss = loss_of("vqvae", {}, 0.1, codebook=1.0, commitment=1.0)
    assert not any(part.requires_grad for part in loss.parts.values())


def test_half_precision_reconstructions_are_compared_in_float32() -> None:
    pixels, made = reconstruction(0.5, commitment=0.0)
    half = made._replace(x_hat=made.x_hat.bfloat16())
    loss = build_objective("vqvae", {})(pixels, half, 0.0)
    assert loss.total.dtype == torch.float32
    assert math.isclose(float(loss.total.detach()), 0.25)


def test_double_precision_stays_double() -> None:
    """A difference that float32 would lose."""
    pixels, made = reconstruction(0.5, commitment=0.0)
    wide = made._replace(x_hat=pixels.double() + 1e-6)
    loss = build_objective("vqvae", {"commitment": 0.0})(pixels.double(), wide, 0.0)
    assert loss.total.dtype == loss.parts["mse"].dtype == torch.float64
    assert float(loss.total.detach()) == pytest.approx(1e-12, rel=1e-6)


def test_an_unknown_objective_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'elbo'.*vqvae, albo"):
        build_objective("elbo", {})


@pytest.mark.parametrize(("name", "option"), [("vqvae", "beta"), ("albo", "commitment")])
def test_an_unknown_option_is_named(name: str, option: str) -> None:
    with pytest.raises(ValueError, match=rf"objective {name}: .*'{option}'"):
        build_objective(name, {option: 1.0})


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_defaults(name: str) -> None:
    terms = VQ_TERMS | SOFT_TERMS | {"assignment": 1.0, "posterior_entropy": 0.5}
    assert math.isfinite(float(loss_of(name, {}, 0.0, **terms).total.detach()))
