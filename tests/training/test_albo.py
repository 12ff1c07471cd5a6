"""ALBO's two bounding forms: what they add to the printed one."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models import Reconstruction
from models.information import divergence_from_uniform
from models.quantizers import Quantized, build_quantizer
from models.randomness import Noise, Progress
from training.objectives import build_objective

K, SAMPLES, GAMMA, BETA = 6, 4, 0.1, 0.4


def quantized_with(**options: Any) -> tuple[Tensor, Quantized]:
    torch.manual_seed(0)
    quantizer = build_quantizer("gmvq", {"codebook_size": K, "code_dim": 3, **options}).train()
    head = torch.randn(SAMPLES, 6, 2, 2).requires_grad_()
    return head, quantizer(head, Progress(0, 10, Noise(0, 0, torch.arange(SAMPLES))))


def total_of(quantized: Quantized, **options: Any) -> Tensor:
    pixels = torch.full((SAMPLES, 3, 8, 8), 0.5)
    objective = build_objective("albo", {"gamma": GAMMA, **options})
    return objective(pixels, Reconstruction(pixels.clone(), quantized), 0.0).total


@pytest.mark.parametrize(
    ("form", "regulariser"),
    [("printed", "commit"), ("product", "literal"), ("coupled", "commit")],
)
def test_a_form_is_its_formula_but_for_a_constant(form: str, regulariser: str) -> None:
    head, quantized = quantized_with(component_entropy=True, regulariser=regulariser)
    mean, conditional = quantized.posterior
    noise = quantized.terms["component_entropy"]
    rates = {
        "printed": divergence_from_uniform(mean) - math.log(K),
        "product": divergence_from_uniform(mean) - math.log(K) - noise,
        "coupled": math.log(K) - conditional - noise,
    }
    expected = GAMMA * (quantized.terms["commitment"] + BETA * rates[form])
    total = total_of(quantized, beta=BETA, form=form)
    torch.testing.assert_close(total, expected)
    (got,) = torch.autograd.grad(total, head, retain_graph=True)
    torch.testing.assert_close(got, torch.autograd.grad(expected, head)[0], rtol=1e-4, atol=1e-7)


def test_usage_pressure_weighs_the_noise_of_the_product_form() -> None:
    _, quantized = quantized_with(component_entropy=True, regulariser="literal")
    one = total_of(quantized, beta=BETA, form="product")
    torch.testing.assert_close(
        one, total_of(quantized, usage_pressure=GAMMA * BETA, form="product")
    )


@pytest.mark.parametrize("form", ["product", "coupled"])
def test_a_bound_without_the_noises_entropy_says_what_to_take(form: str) -> None:
    with pytest.raises(ValueError, match="component_entropy = true and noise"):
        total_of(quantized_with()[1], form=form)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"form": "joint"}, "form is one of printed, product, coupled"),
        ({"form": "coupled", "usage_pressure": 0.1}, "coupled form has no usage_pressure"),
    ],
)
def test_options_without_a_meaning_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"objective albo: .*{said}"):
        build_objective("albo", options)
