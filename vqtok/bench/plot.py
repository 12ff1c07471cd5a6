"""The picture of a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqtok.errors import InvalidParameter

NEEDS_MATPLOTLIB = "A plot needs matplotlib: pip install 'vqtok[bench]'."


def require_matplotlib() -> None:
    """Raise InvalidParameter, saying what to install, where there is none."""
    try:
        import matplotlib  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise InvalidParameter(NEEDS_MATPLOTLIB) from error


def plot_report(report: Mapping[str, Any], path: Path) -> None:
    """Left, the latencies of each level as the share of answers that took longer; right, the
    images a second that each level answered, and within the objective.

    Raises:
        InvalidParameter: there is no matplotlib.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _plot_latencies(left, report["levels"], report["objective_ms"])
    _plot_rates(right, report["levels"])
    work = report["workload"]
    figure.suptitle(
        f"{report['model']['name']}: {work['route']}, {work['batch']} a request as {work['send']}"
    )
    figure.savefig(path, dpi=120)


def _plot_latencies(axes: Any, levels: Sequence[Mapping[str, Any]], objective: float) -> None:
    axes.set(xscale="log", yscale="log", ylim=(1 / max(10, *(_count(x) for x in levels)), 1.2))
    for level in levels:
        curve = level["curve_ms"]
        longer = [1 - index / max(1, len(curve) - 1) for index in range(len(curve))]
        # No answer took longer than the slowest; a logarithm has no place for that.
        axes.plot(curve, [max(share, 1 / _count(level)) for share in longer], label=level["load"])
    if not any(level["curve_ms"] for level in levels):
        axes.set_xlim(objective / 10, objective * 10)
    axes.axvline(objective, color="0.6", linestyle=":", label="objective")
    axes.set(xlabel="latency, ms", ylabel="share of answers that took longer")
    axes.legend(title="load", fontsize="small")


def _plot_rates(axes: Any, levels: Sequence[Mapping[str, Any]]) -> None:
    places = range(len(levels))
    answered = [level["images_per_second"] for level in levels]
    good = [level["goodput"] for level in levels]
    axes.bar(places, answered, color="0.85", label="answered")
    axes.bar(places, good, width=0.5, label="within the objective")
    axes.set_xticks(places, [level["load"] for level in levels])
    axes.set(xlabel="load", ylabel="images a second")
    axes.legend(fontsize="small")


def _count(level: Mapping[str, Any]) -> int:
    return max(1, level["statuses"].get("200", 0))
