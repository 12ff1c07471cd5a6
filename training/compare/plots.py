"""The report's plots as SVG that follows the page's own colour for ink."""

import io
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.quantizers import build_quantizer
from training.compare.rows import Row
from training.compare.store import Record

INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""
COLOURS = (
    "#3f87c9",
    "#dd8332",
    "#38a169",
    "#d5505f",
    "#8f74cc",
    "#9c7660",
    "#d175b1",
    "#84909b",
    "#a5a333",
    "#2ca6b3",
)
DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))
STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.8,
}


def colour_of(number: int) -> str:
    """The colour of the row with that number."""
    return COLOURS[number % len(COLOURS)]


def dash_of(number: int) -> str:
    """Its line as SVG's stroke-dasharray, in line widths."""
    dash = DASHES[number // len(COLOURS) % len(DASHES)]
    return "none" if isinstance(dash, str) else " ".join(f"{2 * length:g}" for length in dash[1])


def learning_curves(rows: Sequence[Row], subjects: Sequence[str], against: str) -> str:
    """Validation MSE against "step" or "seconds", the mean over the compared seeds."""

    def draw(axes: Axes) -> None:
        for number, row in enumerate(rows):
            histories = [record["history"] for record in row.compared]
            points = list(zip(*histories, strict=False))
            unit = 60.0 if against == "seconds" else 1.0
            x = [fmean(entry[against] for entry in point) / unit for point in points]
            y = [fmean(entry["mse"] for entry in point) * 1e3 for point in points]
            bold = row.label in subjects
            axes.plot(
                x,
                y,
                color=colour_of(number),
                linestyle=DASHES[number // len(COLOURS) % len(DASHES)],
                linewidth=3.0 if bold else 1.4,
                zorder=3 if bold else 2,
                marker="o",
                markersize=4.0 if bold else 2.5,
            )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.set_ylabel("validation MSE × 10³")
        axes.set_xlabel("minutes of training" if against == "seconds" else "steps")

    return _svg(draw, (5.2, 3.9), f"curves-{against}")


def rate_distortion(rows: Sequence[Row]) -> str:
    """Test MSE against bits an image: filled at the entropy, hollow at fixed length."""

    def draw(axes: Axes) -> None:
        for number, row in enumerate(rows):
            x, y = row.mean("bits_entropy") or 0.0, row.error * 1e3
            fixed, colour = row.mean("bits_fixed") or 0.0, colour_of(number)
            axes.plot([x, fixed], [y, y], color=colour, linewidth=0.8, alpha=0.6)
            axes.plot([fixed], [y], "o", color=colour, markerfacecolor="none", markersize=6)
            axes.plot([x], [y], "o", color=colour, markersize=7)
            place = (0, 6)
            axes.annotate(
                str(number + 1), (x, y), place, textcoords="offset points", ha="center", fontsize=9
            )
        axes.set_xlabel("bits an image")
        axes.set_ylabel("test MSE × 10³")

    return _svg(draw, (5.2, 3.9), "rate")


def usage(row: Row, number: int) -> str:
    """Share of the tokens of each code, most used first, in percent; the line is even use."""

    def draw(axes: Axes) -> None:
        shares = row.compared[0]["usage"]
        ranks = [100.0 * place / (len(shares) - 1) for place in range(len(shares))]
        axes.fill_between(ranks, shares, color=colour_of(number), alpha=0.75, linewidth=0)
        axes.axhline(even_use(row.compared[0]), color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_ylim(bottom=0.0)
        axes.set_xlim(0.0, 100.0)

    return _svg(draw, (2.6, 1.7), f"usage-{number}")


def even_use(record: Record) -> float:
    """Percent of the tokens that each code has, of all levels, where all are used alike."""
    model = record["settings"]["model"]
    quantizer = build_quantizer(model["method"], model["quantizer"])
    return 100.0 / (quantizer.codebook_size * quantizer.depth)


def _svg(draw: Callable[[Axes], None], size: tuple[float, float], name: str) -> str:
    """One pair of axes as an SVG element without declarations, the same bytes every time."""
    style: dict[Any, Any] = {**STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0.0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0.0)
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor").strip()
