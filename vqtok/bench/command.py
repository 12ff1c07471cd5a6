"""`vqtok bench`: put load on a service and say how it bears it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from vqtok.bench.plot import plot_report, require_matplotlib
from vqtok.bench.run import run_bench
from vqtok.bench.summary import Level, Plan
from vqtok.bench.workload import FORMATS, ROUTES, Workload
from vqtok.errors import InvalidParameter
from vqtok.transport import KEY_VARIABLE
from vqtok.wire import parse_size

COLUMNS = ("load", "requests", "images/s", "goodput", "p50", "p95", "p99", "max", "not 200")
NOT_TRUSTED = (
    "* The generator was late or busy, and was measured itself: put it on another machine or on "
    "cores of its own, or ask for less."
)


def bench(
    url: Annotated[str, typer.Argument(envvar="VQTOK_URL", help="The service: http://HOST:PORT.")],
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image files to send; made up where there are none.")
    ] = None,
    route: Annotated[str, typer.Option(help=f"One of {', '.join(ROUTES)}.")] = "encode",
    send: Annotated[str, typer.Option(help=f"Images as {' or '.join(FORMATS)}.")] = "file",
    batch: Annotated[int, typer.Option(min=1, help="Images a request.")] = 1,
    size: Annotated[str | None, typer.Option(help="HxW of images that are made up.")] = None,
    rate: Annotated[
        str | None, typer.Option(help="Open loop: requests a second, several as 50,100,200.")
    ] = None,
    concurrency: Annotated[
        str | None, typer.Option(help="Closed loop: callers at once, several as 1,4,16.")
    ] = None,
    duration: Annotated[float, typer.Option(min=0.1, help="Seconds that count, a level.")] = 10.0,
    warm_up: Annotated[float, typer.Option(min=0.0, help="Seconds before them.")] = 2.0,
    objective: Annotated[
        float, typer.Option(min=0.1, help="Good answers take at most so many ms.")
    ] = 100.0,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Report as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of it, .png or .svg.")] = None,
) -> None:
    """Put load on a service and say how it bears it."""
    if plot is not None:
        require_matplotlib()
    plans = [
        Plan(each, None, warm_up + duration, warm_up, objective / 1000)
        for each in _numbers(rate, "rate")
    ]
    plans += [
        Plan(None, round(each), warm_up + duration, warm_up, objective / 1000)
        for each in _numbers(concurrency, "concurrency")
    ]
    if not plans:
        raise typer.BadParameter(
            "say how much: --rate for an open loop, --concurrency for a closed one"
        )
    workload = Workload(
        route, send, batch, None if size is None else parse_size(size), images or ()
    )
    console = Console(stderr=True)

    def told(level: Level) -> None:
        console.print(f"{level.load}: {level.images_per_second:,.1f} images/s", highlight=False)

    report = run_bench(
        url, workload, plans, api_key=os.environ.get(KEY_VARIABLE) or None, on_level=told
    )
    if output is not None:
        output.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    if plot is not None:
        plot_report(report, plot)
    _show([Level(**level) for level in report["levels"]], objective)


def _numbers(text: str | None, name: str) -> list[float]:
    if text is None:
        return []
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise InvalidParameter(f"{name} is a number above 0, or several: 1,4,16; not {text!r}.")
    return numbers


def _show(levels: Sequence[Level], objective: float) -> None:
    table = Table(title=f"latencies in ms; goodput: images/s within {objective:g} ms")
    for column in COLUMNS:
        table.add_column(
            column,
            justify="left" if column in ("load", "not 200") else "right",
            no_wrap=column == "load",
        )
    for level in levels:
        times = [level.latency_ms[name] for name in ("p50", "p95", "p99", "max")]
        others = [
            f"{count} x {_status(status)}"
            for status, count in level.statuses.items()
            if status != "200"
        ]
        table.add_row(
            level.load + ("" if level.is_trusted else " *"),
            f"{level.requests:,}",
            f"{level.images_per_second:,.1f}",
            f"{level.goodput:,.1f}",
            *("" if each is None else f"{each:,.1f}" for each in times),
            ", ".join(others),
        )
    console = Console()
    console.print(table)
    for reason in sorted({reason for level in levels for reason in level.reasons}):
        console.print(f"no answer: {reason}", highlight=False, markup=False)
    if not all(level.is_trusted for level in levels):
        console.print(NOT_TRUSTED)


def _status(status: str) -> str:
    return "no answer" if status == "0" else status
