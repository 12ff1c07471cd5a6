"""Does the bias of Gumbel-softmax gradients grow with the entropy of what is drawn?

Figure 3 and appendix A.1 of GM-VQ (arXiv 2410.10180): a network f of 10 one-hot actions with 50 and
5 hidden units and one output; logits of random networks divided by temperatures, for a course of
entropies; the exact gradient of E f by enumeration against the mean of Gumbel-softmax estimates.
The paper shows one network and the absolute bias. This takes many networks, also divides by the
length of the exact gradient, and draws so many samples that what is left is bias.

    python -m examples.gradient_bias --output runs/gradient-bias
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor, nn

from examples.short_runs import markdown_table, write_results
from training.results import commit, hardware

ACTIONS, HIDDEN = 10, (50, 5)
ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}
ESTIMATORS, GUMBEL_TEMPERATURES = ("soft", "hard"), (0.5, 1.0)
PAPERS_SAMPLES = 50
Floats = NDArray[np.float64]
SHOWN = {"activation": "relu", "estimator": "soft", "gumbel_temperature": 0.5}


@dataclass(frozen=True)
class Scale:
    """How many networks, temperatures of the logits, and samples of each gradient."""

    networks: int
    temperatures: int
    samples: int


FULL, SMOKE = Scale(50, 40, 10_000), Scale(3, 6, 500)


def network(activation: str, seed: int) -> tuple[nn.Module, Tensor]:
    """f with PyTorch's own start, and logits (10,) ~ N(0, 1)."""
    torch.manual_seed(seed)
    sizes, layers = (ACTIONS, *HIDDEN, 1), list[nn.Module]()
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1]).requires_grad_(False), torch.randn(ACTIONS)


def exact_gradient(f: nn.Module, theta: Tensor) -> Tensor:
    """Of Σ_c softmax(θ)_c f(e_c) to θ (10,)."""
    values, p = f(torch.eye(ACTIONS))[:, 0].double(), theta.double().softmax(0)
    return p * (values - p @ values)


def estimates(
    f: nn.Module, theta: Tensor, noise: Tensor, estimator: str, temperature: float
) -> Tensor:
    """(samples, 10): d f(y) / dθ, y = softmax((θ + g) / τ), where hard with the value of a draw."""
    rows = theta.expand_as(noise).clone().requires_grad_()
    y = ((rows + noise) / temperature).softmax(1)
    if estimator == "hard":
        drawn = nn.functional.one_hot(y.argmax(1), ACTIONS).to(y)
        y = drawn + y - y.detach()
    return torch.autograd.grad(f(y).sum(), rows)[0].double()


def biases(drawn: Tensor, exact: Tensor) -> tuple[float, float, float]:
    """The bias of estimates (samples, 10): of the first 50 as the paper takes it, that is with the
    noise of their mean; of all, without the noise's part; and the deviation of one estimate."""
    few = drawn[:PAPERS_SAMPLES].mean(0) - exact
    variance = drawn.var(0).sum()
    square = (drawn.mean(0) - exact).square().sum() - variance / len(drawn)
    return float(few.norm()), float(square.clamp_min(0.0).sqrt()), float(variance.sqrt())


def course(f: nn.Module, logits: Tensor, setting: Mapping[str, Any], scale: Scale) -> Floats:
    """(temperatures, 6): entropy, absolute biases of few and all samples, the same divided by the
    length of the exact gradient, deviation."""
    rows: list[list[float]] = []
    for temperature in np.geomspace(0.1, 10.0, scale.temperatures):
        theta = logits / float(temperature)
        exact, p = exact_gradient(f, theta), theta.double().softmax(0)
        uniform = torch.rand(scale.samples, ACTIONS).clamp_(1e-7, 1.0 - 1e-7)
        gumbel, tau = -(-uniform.log()).log(), setting["gumbel_temperature"]
        few, many, spread = biases(estimates(f, theta, gumbel, setting["estimator"], tau), exact)
        entropy, length = float(-(p * p.log()).sum()), float(exact.norm())
        rows.append([entropy, few, many, few / length, many / length, spread])
    return np.array(rows)


def pearson(x: Floats, y: Floats) -> float:
    """The correlation of (n,) and (n,)."""
    return float(np.corrcoef(x, y)[0, 1])


def summary(correlations: Sequence[float]) -> dict[str, float]:
    """Mean, half the width of its 95 % interval over networks (Student's t), share above 0."""
    values = np.asarray(correlations)
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    return {
        "mean": round(float(values.mean()), 4),
        "interval": round(float(student.ppf(0.975, len(values) - 1)) * error, 4),
        "positive": round(float((values > 0).mean()), 4),
    }


def cell(setting: dict[str, Any], scale: Scale) -> dict[str, Any]:
    """Correlations of entropy and bias of one kind of network and estimator, and mean courses."""
    courses = np.stack(
        [
            course(*network(setting["activation"], seed), setting, scale)
            for seed in range(scale.networks)
        ]
    )
    names = ("absolute_few", "absolute", "relative_few", "relative")
    correlations = {
        name: summary([pearson(c[:, 0], c[:, column]) for c in courses])
        for column, name in enumerate(names, start=1)
    }
    columns = np.median(courses, axis=0).T.round(6).tolist()
    medians = dict(zip(("entropy", *names, "deviation"), columns, strict=True))
    return {**setting, "correlations": correlations, "medians": medians}


def experiment(scale: Scale) -> dict[str, Any]:
    """All cells."""
    settings = [
        {"activation": activation, "estimator": estimator, "gumbel_temperature": temperature}
        for activation, estimator, temperature in product(
            ACTIVATIONS, ESTIMATORS, GUMBEL_TEMPERATURES
        )
    ]
    return {
        "commit": commit(),
        "hardware": hardware(torch.device("cpu")),
        "networks": scale.networks,
        "temperatures": scale.temperatures,
        "samples": scale.samples,
        "cells": [cell(setting, scale) for setting in settings],
    }


def _correlation(figures: Mapping[str, float]) -> str:
    return f"{figures['mean']:+.2f} ± {figures['interval']:.2f} ({100 * figures['positive']:.0f} %)"


def table(result: Mapping[str, Any]) -> str:
    """A Markdown table: mean ρ over networks ± 95 %, and the share of networks with ρ > 0."""
    few, many = PAPERS_SAMPLES, f"{result['samples']:,}"
    head = ["activation", "estimator", "τ"]
    head += [f"{kind}, {k} samples" for kind in ("absolute", "relative") for k in (few, many)]
    rows = []
    for each in result["cells"]:
        columns = ("absolute_few", "absolute", "relative_few", "relative")
        figures = [_correlation(each["correlations"][name]) for name in columns]
        setting = [each["activation"], each["estimator"], f"{each['gumbel_temperature']:g}"]
        rows.append([*setting, *figures])
    return markdown_table(head, rows)


def _range(result: Mapping[str, Any], name: str) -> str:
    means = [each["correlations"][name]["mean"] for each in result["cells"]]
    return f"{min(means):+.2f} to {max(means):+.2f}"


def page(result: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    return f"""# Gradient bias and entropy

Pearson's ρ between the entropy of a categorical variable and the bias of its Gumbel-softmax
gradient, over {result["temperatures"]} temperatures of the logits: mean over {result["networks"]}
networks ± half its 95 % interval, and in brackets the share of networks with ρ > 0. Figure 3 of
GM-VQ (arXiv 2410.10180) shows ρ = 0.77 for the absolute bias of one network.

{table(result)}

Over these kinds of network and estimator the mean ρ of the absolute bias is
{_range(result, "absolute")}, that of the bias divided by the length of the exact gradient
{_range(result, "relative")}: where the entropy is low, the exact gradient is short as well. With
{PAPERS_SAMPLES} samples the noise of their mean counts as bias; with {result["samples"]:,} its part
is subtracted.

Commit `{result["commit"]}`, seeds 0 to {result["networks"] - 1}, {result["hardware"]}.
`python -m examples.gradient_bias` makes these figures and the picture.

![Bias against entropy](gradient-bias.png)
"""


def picture(result: Mapping[str, Any], path: Path) -> None:
    """Median bias over networks against entropy, absolute and relative, of the cell `SHOWN`."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    (shown,) = [c for c in result["cells"] if all(c[k] == v for k, v in SHOWN.items())]
    medians = shown["medians"]
    figure, left = plt.subplots(figsize=(6.0, 4.0), layout="constrained")
    right = left.twinx()
    left.plot(medians["entropy"], medians["absolute"], "o-", color="C0", markersize=3)
    right.plot(medians["entropy"], medians["relative"], "s-", color="C1", markersize=3)
    right.set_yscale("log")
    left.set_xlabel("entropy, nats")
    left.set_ylabel("absolute bias", color="C0")
    right.set_ylabel("bias / length of the exact gradient", color="C1")
    left.set_title(", ".join(str(value) for value in SHOWN.values()))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment; write gradient-bias.json, .md and .png."""
    parser = argparse.ArgumentParser(
        description="Bias of Gumbel-softmax gradients against entropy."
    )
    parser.add_argument("--output", type=Path, default=Path("runs/gradient-bias"))
    parser.add_argument("--smoke", action="store_true", help="a few networks, in seconds")
    options = parser.parse_args(arguments)
    result = experiment(SMOKE if options.smoke else FULL)
    path = options.output / "gradient-bias"
    write_results(path, result, page(result))
    picture(result, path.with_suffix(".png"))
    print(table(result))


if __name__ == "__main__":
    main()
