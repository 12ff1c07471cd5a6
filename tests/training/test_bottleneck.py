"""VIB and VDIB: rates under each prior, what they equal, what they pull at, how they resume."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import Reconstruction
from models.information import cross_entropy, entropy
from models.quantizers import Quantized, Quantizer, build_quantizer
from models.randomness import Noise, Progress
from tests.training.tiny import tiny_settings
from training.checkpoint import CHECKPOINT_FILE
from training.loop import Trainer
from training.objectives import Objective, build_objective
from training.objectives.bottleneck import PRIORS
from training.optimiser import build_optimisers
from training.runs import train
from training.task import Task

K, SAMPLES = 6, 4
NAMES = ("vib", "vdib")


def quantizer_of(method: str = "gmvq") -> Quantizer:
    torch.manual_seed(0)
    return build_quantizer(method, {"codebook_size": K, "code_dim": 3}).train()


def quantized_by(quantizer: Quantizer, seed: int = 0) -> tuple[Tensor, Quantized]:
    """A head with gradient, quantized."""
    generator = torch.Generator().manual_seed(seed)
    head = torch.randn(SAMPLES, quantizer.head_channels, 2, 2, generator=generator)
    head.requires_grad_()
    return head, quantizer(head, Progress(0, 10, Noise(seed, 0, torch.arange(SAMPLES))))


def objective_for(quantizer: Quantizer, name: str, **options: Any) -> Objective:
    """Without the terms of VQ-VAE, on a prior that is not uniform."""
    objective = build_objective(name, {"codebook": 0.0, "commitment": 0.0, **options})
    objective.prepare(quantizer)
    skewed = torch.linspace(-1.0, 1.0, K)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.copy_(skewed)
        for buffer in objective.buffers():
            buffer.copy_(skewed.softmax(0))
    return objective


def total_of(objective: Objective, quantized: Quantized) -> Tensor:
    """Without any distortion."""
    pixels = torch.full((SAMPLES, 3, 8, 8), 0.5)
    return objective(pixels, Reconstruction(pixels.clone(), quantized), 0.0).total


def log_prior_of(prior: str, mean: Tensor) -> Tensor:
    skewed = torch.linspace(-1.0, 1.0, K).log_softmax(0)
    uniform = torch.full((K,), -math.log(K))
    return {"uniform": uniform, "learned": skewed, "ema": skewed, "aggregate": mean.log()}[prior]


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", NAMES)
def test_the_rate_and_its_gradient_are_those_of_the_definition(name: str, prior: str) -> None:
    quantizer = quantizer_of()
    head, quantized = quantized_by(quantizer)
    objective = objective_for(quantizer, name, prior=prior, beta=0.7)
    mean, conditional = quantized.posterior
    expected = cross_entropy(mean, log_prior_of(prior, mean))
    expected = 0.7 * (expected - conditional if name == "vib" else expected)
    total = total_of(objective, quantized)
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-6)
    sources = [head, *quantizer.parameters()]
    got = torch.autograd.grad(total, sources, retain_graph=True)
    for one, other in zip(got, torch.autograd.grad(expected, sources), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def gradient_at_head(objective: Objective, quantizer: Quantizer) -> Tensor:
    head, quantized = quantized_by(quantizer)
    return torch.autograd.grad(total_of(objective, quantized), head)[0]


def test_vdib_under_the_uniform_prior_is_the_plain_objective() -> None:
    quantizer = quantizer_of()
    rated = objective_for(quantizer, "vdib", beta=3.0, commitment=0.5)
    plain = objective_for(quantizer, "vqvae", commitment=0.5)
    one, other = (gradient_at_head(o, quantizer) for o in (rated, plain))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-7)
    assert other.abs().max() > 1e-3


def test_vdib_of_the_aggregate_is_a_negative_usage_pressure() -> None:
    quantizer = quantizer_of()
    rated = objective_for(quantizer, "vdib", prior="aggregate", beta=0.3)
    pressed = objective_for(quantizer, "vqvae", usage_pressure=-0.3)
    assert torch.equal(gradient_at_head(rated, quantizer), gradient_at_head(pressed, quantizer))
    _, quantized = quantized_by(quantizer)
    assert torch.equal(total_of(rated, quantized), total_of(pressed, quantized))


def test_giving_both_names_the_equality() -> None:
    with pytest.raises(ValueError, match=r"objective vdib: .*beta is -usage_pressure"):
        build_objective("vdib", {"prior": "aggregate", "usage_pressure": 0.0})
    build_objective("vib", {"prior": "aggregate", "usage_pressure": 0.1})


def test_the_learned_prior_becomes_the_mean_posterior() -> None:
    quantizer = quantizer_of()
    with torch.no_grad():
        still = quantized_by(quantizer)[1]
    mean = still.posterior.mean
    objective = objective_for(quantizer, "vdib", prior="learned", beta=1.0)
    (logits,) = objective.parameters()
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimiser.zero_grad()
        total_of(objective, still).backward()
        optimiser.step()
    torch.testing.assert_close(logits.detach().softmax(0), mean, rtol=0, atol=1e-3)
    terms = objective.terms(still)
    assert terms["prior_divergence"].item() == pytest.approx(0.0, abs=1e-4)
    assert terms["rate"].item() == pytest.approx(entropy(mean).item(), abs=1e-4)


def test_the_moving_average_follows_the_mean_posterior() -> None:
    quantizer = quantizer_of()
    objective = build_objective("vib", {"prior": "ema", "ema_decay": 0.75})
    objective.prepare(quantizer)
    expected = torch.full((K,), 1.0 / K)
    for seed in range(4):
        quantized = quantized_by(quantizer, seed)[1]
        objective.after_step(quantized)
        expected = 0.75 * expected + 0.25 * quantized.posterior.mean.detach()
        (average,) = objective.buffers()
        torch.testing.assert_close(average, expected)
        assert not average.requires_grad


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prior", ["ema", "aggregate"])
def test_a_prior_without_effect_on_a_hard_assignment_is_refused(name: str, prior: str) -> None:
    quantizer = quantizer_of("vq")
    objective = objective_for(quantizer, name, prior=prior)
    with pytest.raises(ValueError, match=f"prior {prior} needs a soft posterior"):
        total_of(objective, quantized_by(quantizer)[1])


@pytest.mark.parametrize("prior", ["uniform", "learned"])
def test_on_a_hard_assignment_both_are_the_same(prior: str) -> None:
    quantizer = quantizer_of("vq")
    totals = []
    for name in NAMES:
        objective = objective_for(quantizer, name, prior=prior, beta=1.0)
        quantized = quantized_by(quantizer)[1]
        totals.append(total_of(objective, quantized))
        mean = quantized.posterior.mean
        expected = cross_entropy(mean, log_prior_of(prior, mean))
        torch.testing.assert_close(totals[-1], expected)
    assert torch.equal(*totals)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prior": "flat"}, "prior is one of uniform, learned, ema, aggregate"),
        ({"ema_decay": 0.9}, "ema_decay belongs to the prior ema"),
        ({"prior": "ema", "ema_decay": 1.0}, r"ema_decay lies in \[0, 1\)"),
        ({"beta": -0.1}, "not negative; usage_pressure"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_options_without_a_meaning_are_refused(
    name: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=f"objective {name}: .*{said}"):
        build_objective(name, options)


@pytest.mark.parametrize("prior", ["learned", "ema"])
def test_a_prior_with_a_size_wants_to_see_the_quantizer(prior: str) -> None:
    objective = build_objective("vib", {"prior": prior})
    with pytest.raises(ValueError, match=r"call prepare\(quantizer\) first"):
        total_of(objective, quantized_by(quantizer_of())[1])


def test_a_learned_prior_has_one_row_a_depth() -> None:
    quantizer = quantizer_of()
    quantizer.depth = 3
    objective = build_objective("vib", {"prior": "learned"})
    objective.prepare(quantizer)
    assert [parameter.shape for parameter in objective.parameters()] == [(3, K)]


def settings_with(images: Path, prior: str, **changes: Any) -> Any:
    objective = {"name": "vib", "options": {"prior": prior, "beta": 1e-2, "commitment": 1e-3}}
    return tiny_settings("gmvq", images, {"objective": objective, **changes})


def test_a_learned_prior_is_trained_without_decay(made_images: Path) -> None:
    task = Task(settings_with(made_images, "learned"))
    (logits,) = task.objective.parameters()
    adamw, *_ = build_optimisers(task, settings_with(made_images, "learned").optimiser)
    groups = adamw.param_groups
    (group,) = [g for g in groups if any(p is logits for p in g["params"])]
    assert group["weight_decay"] == 0.0


class Interrupted(Exception):
    """Stands for whatever ends a run in the middle."""


def interrupt_at(step: int) -> Callable[..., Any]:
    whole = Trainer._step

    def broken(self: Trainer, number: int, batch: Any) -> Any:
        if number == step:
            raise Interrupted
        return whole(self, number, batch)

    return broken


@pytest.mark.parametrize("prior", ["learned", "ema"])
def test_a_prior_is_checkpointed_and_resumed(
    prior: str, made_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_with(made_images, prior, **{"schedule.checkpoint_every": 3})
    train(settings, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_step", interrupt_at(5))
        with pytest.raises(Interrupted):
            train(settings, tmp_path / "broken")
    train(settings, tmp_path / "broken")
    states = [
        torch.load(tmp_path / run / CHECKPOINT_FILE, weights_only=True)["modules"]["objective"]
        for run in ("whole", "broken")
    ]
    ((name, one),) = states[0].items()
    assert name == {"learned": "log_prior", "ema": "average"}[prior]
    assert torch.equal(one, states[1][name])
    assert (one - one.mean()).abs().max() > 1e-4


def usage_after(pressure: float) -> float:
    """H(Z) once codes and vectors of two unequal clusters have followed commitment and pressure."""
    torch.manual_seed(0)
    quantizer = build_quantizer("gmvq", {"codebook_size": 2, "code_dim": 1, "noise": "off"}).train()
    samples = 40
    z = torch.cat([torch.full((30,), -1.0), torch.full((10,), 1.0)])
    head = nn.Parameter(torch.stack([z, torch.zeros(samples)], 1)[:, :, None, None])
    with torch.no_grad():
        quantizer.get_parameter("codebook").copy_(torch.tensor([[-1.0], [1.0]]))
    objective = build_objective("albo", {"gamma": 1.0, "usage_pressure": pressure})
    optimiser = torch.optim.SGD([head, *quantizer.parameters()], lr=0.05)
    progress = Progress(0, 1, Noise(0, 0, torch.arange(samples)))
    pixels = torch.zeros(samples, 3, 1, 1)
    for _ in range(20):
        optimiser.zero_grad()
        objective(pixels, Reconstruction(pixels, quantizer(head, progress)), 0.0).total.backward()
        optimiser.step()
    return float(entropy(quantizer(head, progress).posterior.mean).detach())


def test_usage_pressure_raises_the_usage_of_two_clusters() -> None:
    """dH(Z)/du > 0: one signed knob, the equality above included."""
    pressures = [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]
    usage = [usage_after(pressure) for pressure in pressures]
    steps = [after - before for before, after in pairwise(usage)]
    assert min(steps) > 1e-4
    assert usage[-1] - usage[0] > 0.05
