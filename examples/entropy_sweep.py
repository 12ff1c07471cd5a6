"""What does more weight on usage buy, and from where on is it feigned?

Figure 4 of GM-VQ (arXiv 2410.10180): GM-VQ at one γ and several β, the weight of KL(q̄ || uniform),
with several seeds: box plots of the noise-free error and of perplexity. A large β can raise the
soft perplexity by making every q(c|x) flat, while fewer codes are really used: so hard perplexity
and mutual information stand beside it, and a β counts as valid only where the median of
hard / soft perplexity is above 0.9.

    python -m examples.entropy_sweep --epochs 1 --output runs/entropy-sweep

It reads CIFAR-10 below `VQTOK_DATA`, and goes on with the runs that the folder holds. The figures
are those of the validation images.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from examples.short_runs import markdown_table, parse, run, write_results

BETAS, SEEDS = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0), range(5)
GAMMA, VALID_RATIO = 1e-3, 0.9
FIGURES = {
    "mse": "MSE",
    "perplexity": "perplexity",
    "soft_perplexity": "soft perplexity",
    "mutual_information": "I(X; Z), nats",
}


def sweep(
    betas: Sequence[float], seeds: Sequence[int], changes: Mapping[str, Any], output: Path
) -> dict[str, Any]:
    """One run for each β and seed."""
    runs: list[dict[str, Any]] = []
    for beta in betas:
        for seed in seeds:
            options = {"gamma": GAMMA, "beta": beta}
            chosen = {**changes, "objective.options": options, "seed": seed}
            runs.append({"beta": beta, **run(f"beta-{beta:g}-seed-{seed}", chosen, output)})
    return {"gamma": GAMMA, "runs": runs}


def by_beta(result: Mapping[str, Any], figure: str) -> dict[float, list[float]]:
    """A figure of all seeds."""
    found: dict[float, list[float]] = {}
    for each in result["runs"]:
        found.setdefault(each["beta"], []).append(each[figure])
    return found


def valid_betas(result: Mapping[str, Any]) -> list[float]:
    """Those whose median of hard / soft perplexity is above 0.9."""
    hard, soft = by_beta(result, "perplexity"), by_beta(result, "soft_perplexity")
    ratios = {beta: np.median(np.divide(hard[beta], soft[beta])) for beta in hard}
    return [beta for beta, ratio in ratios.items() if ratio > VALID_RATIO]


def page(result: Mapping[str, Any]) -> str:
    """Medians over seeds by β, as Markdown."""
    valid, columns = valid_betas(result), {name: by_beta(result, name) for name in FIGURES}
    rows = []
    for beta in columns["mse"]:
        medians = [f"{np.median(column[beta]):.4g}" for column in columns.values()]
        rows.append([f"{beta:g}", *medians, "yes" if beta in valid else "no"])
    table = markdown_table(["β", *FIGURES.values(), "valid"], rows)
    seeds = len(next(iter(columns["mse"].values())))
    return f"# Entropy sweep\n\nMedians over {seeds} seeds, γ = {result['gamma']:g}.\n\n{table}\n"


def picture(result: Mapping[str, Any], path: Path) -> None:
    """A box plot of each figure by β."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9.0, 6.0), layout="constrained")
    for place, (name, label) in zip(axes.flat, FIGURES.items(), strict=True):
        values = by_beta(result, name)
        place.boxplot(list(values.values()), tick_labels=[f"{beta:g}" for beta in values])
        place.set_xlabel("β")
        place.set_ylabel(label)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sweep; write entropy-sweep.json, .md and .png."""
    description = "GM-VQ over weights of usage and seeds."
    asked = parse(arguments, description, name="entropy-sweep", epochs=1.0)
    betas, seeds = (BETAS[::3], SEEDS[:2]) if asked.smoke else (BETAS, SEEDS)
    result = sweep(betas, seeds, asked.changes, asked.output)
    path = asked.output / "entropy-sweep"
    write_results(path, result, page(result))
    picture(result, path.with_suffix(".png"))
    print(page(result))


if __name__ == "__main__":
    main()
