"""What `against_peers` measured, as a page with a picture.

python -m benchmarks.serving.page docs/results/serving.json
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.serving.processes import in_words
from benchmarks.serving.ratios import Ratio, ratio_of_medians, ratio_of_rounds

OURS = "vqtok"
Rounds = Sequence[Mapping[str, float]]

COLUMNS: Mapping[str, str] = {
    "images a second": "rate",
    "processor time an image": "processor_seconds",
    "processor time beside the model's": "added",
    "p99, equal load": "offered_p99",
    "p50, one caller": "lone_p50",
    "p99, one caller": "lone_p99",
    "p99, 16 callers": "p99",
    "memory": "memory_bytes",
}
HOW = (
    "{rounds} rounds of {seconds:g} s on {hardware}{loud}: one core for the server, another for "
    "the load. Everybody runs the same graph on one thread and gets the same JPEG of {num_bytes} "
    "bytes, in the fastest form that the server takes. In a round all are measured in turn, "
    "the others stopped meanwhile. Equal load is {offered:.0f} requests a second that wait "
    "for nobody, half of what the slowest manages. The load generator manages {generator:.0f} "
    "a second against a route that does nothing. Beside the model's: what is left of a "
    "server's processor time when that of onnxruntime alone, eight images at a time, is taken "
    "away."
)
CELLS = (
    "Each cell is a server's figure over vqtok's in the same round: the geometric mean over the "
    "rounds and its 95 % interval (Student's, of the logarithms). What stands beside the model's "
    "is a difference, of which one round alone says little: there it is the ratio of the medians, "
    "and the interval is of rounds that are drawn again. Bold is better than vqtok."
)
TUNING = (
    "Images a second with 16 callers, in a short run each; the best, in bold, was taken. Settings "
    "under which requests were refused are out of the question."
)
MORE_IS_BETTER = frozenset({"rate"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and the picture beside the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    path: Path = parser.parse_args(arguments).report
    report = json.loads(path.read_text())
    path.with_suffix(".md").write_text(markdown(report, path.with_suffix(".png").name))
    draw(report, path.with_suffix(".png"))
    return 0


def markdown(report: Mapping[str, Any], picture: str) -> str:
    """The page: every server against ours, as ratios over the rounds."""
    others = [name for name in report["seen"] if name != OURS]
    head = "| server | " + " | ".join(COLUMNS) + " |"
    rule = "|" + " --- |" * (len(COLUMNS) + 1)
    tuned = {name: each for name, each in report["tuned"].items() if len(each["tried"]) > 1}
    rows = [f"| {name} | " + " | ".join(_cells(report, name)) + " |" for name in others]
    parts = [
        "# Beside other servers of the same encoder",
        verdict(report),
        _how(report),
        "\n".join([head, rule, *rows]),
        CELLS,
        f"![Added processor time and latency of each server]({picture})",
        "## The settings that were tried",
        TUNING,
        *(_tried(name, each) for name, each in tuned.items()),
    ]
    return "\n\n".join(parts) + "\n"


def verdict(report: Mapping[str, Any]) -> str:
    """Who is ahead, in words: first what is not ours to be proud of."""
    lost = [
        f"{name} in {title}"
        for name in report["seen"]
        if name != OURS
        for title, key in COLUMNS.items()
        if _is_better(report, name, key)
    ]
    if lost:
        return "Ahead of vqtok, beyond the interval: " + "; ".join(lost) + "."
    return "No server is ahead of vqtok in any column, beyond the interval."


def ratio(report: Mapping[str, Any], name: str, key: str) -> Ratio:
    """A server's figure over ours, and the ends of its 95 % interval."""
    compared = ratio_of_medians if key == "added" else ratio_of_rounds
    return compared(_values(report, name, key), _values(report, OURS, key))


def _values(report: Mapping[str, Any], name: str, key: str) -> NDArray[np.float64]:
    rounds: Rounds = report["seen"][name]
    if key == "added":
        used = np.array([each["processor_seconds"] for each in rounds])
        return used - np.array(report["model_seconds"])
    return np.array([each[key] for each in rounds])


def _is_better(report: Mapping[str, Any], name: str, key: str) -> bool:
    _, low, high = ratio(report, name, key)
    return low > 1 if key in MORE_IS_BETTER else high < 1


def _cells(report: Mapping[str, Any], name: str) -> list[str]:
    cells: list[str] = []
    for key in COLUMNS.values():
        middle, low, high = ratio(report, name, key)
        text = f"{middle:.2f} [{low:.2f}, {high:.2f}]"
        cells.append(f"**{text}**" if _is_better(report, name, key) else text)
    return cells


def _how(report: Mapping[str, Any]) -> str:
    return HOW.format(
        rounds=report["rounds"],
        seconds=report["seconds"],
        hardware=report["hardware"],
        loud=_loud(report),
        num_bytes=report["jpeg_bytes"],
        offered=report["offered_per_second"],
        generator=report["generator_requests_per_second"],
    )


def _loud(report: Mapping[str, Any]) -> str:
    """How much of the machine was left; nothing where it was not looked at."""
    stolen_share = report.get("stolen_share")
    return "" if stolen_share is None else f" ({in_words(stolen_share)})"


def _tried(name: str, tuned: Mapping[str, Any]) -> str:
    lines = [f"**{name}**", "", "| settings | images/s | refused |", "| --- | --- | --- |"]
    for each in tuned["tried"]:
        settings = ", ".join(f"{key} = {value}" for key, value in each["settings"].items())
        rate = f"{each['rate']:.0f}"
        if each["settings"] == tuned["settings"]:
            rate = f"**{rate}**"
        lines.append(f"| {settings or 'none'} | {rate} | {each['unanswered']} |")
    return "\n".join(lines)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Bars: what each server adds to the model, and its latency at equal load."""
    names = list(report["seen"])
    panels: Sequence[tuple[str, str, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = (
        ("processor time beside the model's, µs an image", "added", lambda v: 1e6 * v),
        ("p99 at equal load, ms", "offered_p99", lambda v: 1e3 * v),
        ("memory, MiB", "memory_bytes", lambda v: v / 2**20),
    )
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(11, 0.5 + 0.4 * len(names)), layout="constrained")
        for axes, (title, key, scaled) in zip(
            figure.subplots(1, len(panels), sharey=True), panels, strict=True
        ):
            seen = [scaled(_values(report, name, key)) for name in names]
            middles = [float(np.median(values)) for values in seen]
            spread = [
                [middle - float(values.min()), float(values.max()) - middle]
                for middle, values in zip(middles, seen, strict=True)
            ]
            colours = ["#1f77b4" if name == OURS else "#b0b0b0" for name in names]
            axes.barh(names, middles, color=colours, xerr=np.array(spread).T, ecolor="#404040")
            axes.set_title(title)
            axes.set_xlim(left=0)
            axes.invert_yaxis()
        figure.savefig(path, dpi=130)


if __name__ == "__main__":
    sys.exit(main())
