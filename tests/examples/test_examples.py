"""The examples run, and what they compute is what they say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from examples import entropy_sweep, gradient_bias, pitfalls
from models import Autoencoder, ModelSettings, NetworkSettings
from tests.training.tiny import one_thread, smooth_images
from training.data import Part

RESULTS = Path(__file__).parents[2] / "docs/results"
MAINS: dict[str, Callable[..., None]] = {
    "gradient-bias": gradient_bias.main,
    "entropy-sweep": entropy_sweep.main,
    "pitfalls": pitfalls.main,
}
COMMITTED = ("gradient-bias", "entropy-sweep", "pitfalls")
PAGES: dict[str, Callable[[Any], str]] = {
    "gradient-bias": gradient_bias.page,
    "entropy-sweep": entropy_sweep.page,
    "pitfalls": pitfalls.page,
}


@pytest.mark.parametrize("name", MAINS)
def test_an_example_runs_and_writes_figures_page_and_picture(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with one_thread():
        MAINS[name](["--smoke", "--output", str(tmp_path)])
    path = tmp_path / name
    page = path.with_suffix(".md").read_text()
    assert page == PAGES[name](json.loads(path.with_suffix(".json").read_text()))
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) >= 4
    assert len({row.count("|") for row in rows}) == 1
    assert rows[-1] in capsys.readouterr().out
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", COMMITTED)
def test_a_committed_page_is_what_its_json_gives(name: str) -> None:
    path = RESULTS / name
    result = json.loads(path.with_suffix(".json").read_text())
    assert path.with_suffix(".md").read_text() == PAGES[name](result)


def test_the_exact_gradient_is_that_of_the_expectation() -> None:
    f, theta = gradient_bias.network("tanh", seed=0)

    def expectation(at: torch.Tensor) -> torch.Tensor:
        return at.softmax(0) @ f(torch.eye(gradient_bias.ACTIONS))[:, 0]

    expected = torch.autograd.functional.jacobian(expectation, theta)
    got = gradient_bias.exact_gradient(f, theta).float()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-7)
    assert expected.abs().max() > 1e-4


@pytest.mark.parametrize("estimator", gradient_bias.ESTIMATORS)
def test_an_estimate_is_the_softmaxs_jacobian_times_the_networks_slope(estimator: str) -> None:
    f, theta = gradient_bias.network("relu", seed=1)
    noise = torch.randn(20, gradient_bias.ACTIONS)
    got = gradient_bias.estimates(f, theta, noise, estimator, 0.5)
    y = ((theta + noise) / 0.5).softmax(1)
    at = y if estimator == "soft" else nn.functional.one_hot(y.argmax(1), 10).float()
    at.requires_grad_()
    (slope,) = torch.autograd.grad(f(at).sum(), at)
    expected = y * (slope - (y * slope).sum(1, keepdim=True)) / 0.5
    torch.testing.assert_close(got, expected.detach().double(), rtol=1e-4, atol=1e-7)


def test_the_noise_of_the_mean_is_taken_off_the_bias() -> None:
    """Draws of variance 1 in ten dimensions, whose mean is off by 0.5 in one."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(200):
        drawn = torch.randn(100, 10, generator=generator, dtype=torch.double)
        drawn[:, 0] += 0.5
        few, many, deviation = gradient_bias.biases(drawn, torch.zeros(10, dtype=torch.double))
        found.append([few, many, deviation])
    few, many, deviation = np.mean(found, axis=0)
    assert many == pytest.approx(0.5, abs=0.03)
    assert few > 0.6
    assert deviation == pytest.approx(10**0.5, rel=0.02)


def test_a_beta_is_valid_where_the_tokens_follow_the_posterior() -> None:
    runs = [
        {"beta": beta, "perplexity": hard, "soft_perplexity": 100.0}
        for beta, several in {1.0: (95.0, 91.0, 10.0), 20.0: (95.0, 89.0, 10.0)}.items()
        for hard in several
    ]
    assert entropy_sweep.valid_betas({"runs": runs}) == [1.0]


def tiny_model(noise: str) -> Autoencoder:
    torch.manual_seed(0)
    options = {"codebook_size": 8, "code_dim": 4, "noise": noise}
    return Autoencoder(ModelSettings("gmvq", options, NetworkSettings(width=8, num_blocks=0)))


def test_the_leak_test_sees_the_noise_and_nothing_else() -> None:
    images = Part(list(smooth_images(30)), 0, 30)
    still = pitfalls.leak_test(tiny_model("off"), images)
    assert still["own"] == pytest.approx(still["none"], rel=1e-6)
    assert still["permuted"] == pytest.approx(still["none"], rel=1e-6)
    noisy = pitfalls.leak_test(tiny_model("token"), images)
    assert len({round(error, 7) for error in noisy.values()}) == 3
