"""AdamW: what decays, and how the learning rate runs."""

import numpy as np
import pytest
import torch

from tests.training.tiny import CASES, tiny_settings
from training.optimiser import build_optimisers, share_of_peak
from training.settings import OptimiserSettings
from training.task import Task

SETTINGS = OptimiserSettings(learning_rate=2.0, weight_decay=0.5, warmup=0.2)


@pytest.mark.parametrize("case", CASES)
def test_networks_decay_and_quantizers_do_not(case: str) -> None:
    task = Task(tiny_settings(case, "images"))
    model = task.model
    groups = build_optimisers(task, SETTINGS)[0].param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {decay[id(p)] for p in model.encoder.parameters()} == {0.5}
    assert {decay[id(p)] for p in model.decoder.parameters()} == {0.5}
    assert {decay[id(p)] for p in model.quantizer.parameters()} <= {0.0}
    assert len(decay) == len(list(task.parameters()))


def test_a_code_that_gets_no_gradient_stays_where_it_is() -> None:
    task = Task(tiny_settings("vq", "images"))
    model = task.model
    before = model.quantizer.code_table().detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    build_optimisers(task, SETTINGS)[0].step()
    assert torch.equal(model.quantizer.code_table(), before)


def test_the_rate_rises_linearly_from_a_tenth_to_the_peak() -> None:
    rates = [2.0 * share_of_peak(SETTINGS, fraction) for fraction in np.linspace(0.0, 0.2, 5)]
    assert rates == pytest.approx(2.0 * np.linspace(0.1, 1.0, 5))


def test_the_rate_falls_by_half_a_cosine_to_zero() -> None:
    assert 2.0 * share_of_peak(SETTINGS, 0.2) == pytest.approx(2.0)
    assert 2.0 * share_of_peak(SETTINGS, 0.2 + 0.8 / 3) == pytest.approx(1.5)
    assert 2.0 * share_of_peak(SETTINGS, 0.6) == pytest.approx(1.0)
    assert 2.0 * share_of_peak(SETTINGS, 1.0) == pytest.approx(0.0, abs=1e-12)


def test_the_rate_is_never_zero_while_steps_remain() -> None:
    rates = [2.0 * share_of_peak(SETTINGS, step / 1000) for step in range(1000)]
    peak = int(np.argmax(rates))
    assert peak == 200
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()
    assert min(rates) > 0.0


def test_no_warm_up_starts_at_the_peak() -> None:
    settings = OptimiserSettings(learning_rate=2.0, warmup=0.0)
    assert share_of_peak(settings, 0.0) == 1.0
