"""The sections of the report: text and tables, the same for Markdown and HTML."""

from collections import Counter
from dataclasses import dataclass

from training.compare.plan import Point
from training.compare.rows import Row, Rows
from training.compare.standing import (
    EqualTime,
    difference,
    duration,
    equal_time,
    first_paragraph,
    hardware_of,
    ranked,
    verdict,
)
from training.pictures import SHOWN
from training.tables import markdown_table

SHOWN_BITS = {
    "mutual_information_bits": ("I(X;Z), bits a token", 1.0, ".2f"),
    "bits_fixed": ("bits an image, fixed length", 1.0, ".0f"),
    "bits_entropy": ("bits an image, entropy", 1.0, ".0f"),
}
EDGE = "†"
QUALITY = ("psnr", "ssim", "perplexity", "used_codes", "soft_perplexity", "posterior_entropy")


@dataclass(frozen=True)
class Section:
    """A heading, what the table means, and the table."""

    title: str
    text: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sections(rows: Rows) -> list[Section]:
    """Main table, equal time, search, origin."""
    return [_main(rows), _equal_time(rows), _search(rows), _origin(rows)]


def heading(rows: Rows) -> str:
    """The title with budget and hardware."""
    return ", ".join([rows.comparison.title, *hardware_of(rows)])


def budget(rows: Rows) -> str:
    """What every row had, in one sentence."""
    records = [record for row in rows.measured for record in row.compared]
    base = rows.comparison.base
    steps = " or ".join(f"{count:,}" for count in sorted({r["steps"] for r in records}))
    images = " or ".join(f"{count:,}" for count in sorted({r["images"] for r in records}))
    epochs = base.get("schedule", {}).get("epochs", 1)
    spent = f" ({steps} steps, {images} images)" if records else ""
    seeds = ", ".join(map(str, rows.seeds or rows.comparison.seeds))
    plural = "s" if len(rows.seeds or rows.comparison.seeds) > 1 else ""
    return (
        "Every row: the same trunk and start of it, images and order of images, "
        f"{epochs:g} epochs{spent}, seed{plural} {seeds}, and the same search. The figures are "
        "means over these seeds, of all test images, which were looked at once a run, at its end. "
        "MSE is on [0, 1]; perplexity is hard and pooled over the set."
    )


def markdown_page(rows: Rows) -> str:
    """The whole page."""
    parts = [f"# {heading(rows)}", first_paragraph(rows), budget(rows)]
    for section in sections(rows):
        table = markdown_table(section.head, section.rows) if section.rows else ""
        parts += [f"## {section.title}", section.text, table]
    return "\n\n".join(part for part in parts if part) + "\n"


def figure(row: Row, name: str) -> str:
    """A row's mean as text; empty where there is none."""
    _, scale, form = (SHOWN | SHOWN_BITS)[name]
    value = row.mean(name)
    return "" if value is None else format(value * scale, form)


def label_of(row: Row) -> str:
    return f"{row.label} (yardstick)" if row.method.yardstick else row.label


def note_of(row: Row) -> str:
    """What a reader has to know of the row."""
    steps = max((record["steps"] for record in row.compared), default=0)
    needs = row.method.needs_steps
    short = (
        f"its published schedule has {needs:,} steps, here {steps:,}" if 0 < steps < needs else ""
    )
    return "; ".join(filter(None, [row.diverged, short, row.method.note]))


def point_text(point: Point | None) -> tuple[str, str]:
    """Learning rate and knob as text."""
    if point is None:
        return "", ""
    return f"{point.learning_rate:g}", knob_text(point.knob)


def knob_text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _main(rows: Rows) -> Section:
    quality = [SHOWN[name][0] for name in QUALITY]
    bits = [label for label, _, _ in SHOWN_BITS.values()]
    head = (
        "method",
        SHOWN["mse"][0],
        "to the lowest, × 10³ [95 %]",
        "verdict",
        *quality,
        *bits,
        "time",
    )
    unfinished = [row for row in rows.rows if not row.seeds]
    lines = [_main_row(rows, row) for row in (*rows.measured, *unfinished)]
    text = (
        "Lowest test MSE first. The third column is the mean difference to the lowest row of the "
        "paper's, with Student's 95 % interval over seeds. Yardsticks are not ranked: they have a "
        "code space, an objective or a rate of their own. Time is that of training steps, on a CPU "
        "that of the processor."
    )
    return Section("Test images, equal steps", text, (*head, "note"), tuple(lines))


def _main_row(rows: Rows, row: Row) -> tuple[str, ...]:
    seconds = row.mean("seconds")
    return (
        label_of(row),
        figure(row, "mse"),
        _difference(rows, row),
        verdict(rows, row) if row.seeds else "",
        *(figure(row, name) for name in (*QUALITY, *SHOWN_BITS)),
        "" if seconds is None else duration(seconds),
        note_of(row),
    )


def _difference(rows: Rows, row: Row) -> str:
    order = ranked(rows)
    if not row.seeds or not order or row.label == order[0].label:
        return ""
    mean = f"{(row.error - order[0].error) * 1e3:+.3f}"
    interval = difference(rows, row)
    if interval is None:
        return mean
    return f"{mean} [{interval.low * 1e3:+.3f}, {interval.high * 1e3:+.3f}]"


def _equal_time(rows: Rows) -> Section:
    moment, title = equal_time(rows), "Validation images, equal time"
    head = ("method", SHOWN["mse"][0], "its whole budget takes")
    if moment is None:
        return Section(title, "No times to compare.", head, ())
    text = (
        f"The validation MSE after {duration(moment.seconds)} of training, which is what "
        f"{moment.label} took for its whole budget. It is read off each seed's learning curve, on "
        "the straight line between the validations before and after that time, and averaged; empty "
        "where a seed had no validation by then. Slower rows are read in the middle of their "
        "learning-rate schedule: with a schedule as short as this they would stand better."
    )
    order = sorted(rows.measured, key=lambda row: moment.errors.get(row.label, float("inf")))
    return Section(title, text, head, tuple(_time_row(row, moment) for row in order))


def _time_row(row: Row, moment: EqualTime) -> tuple[str, ...]:
    error = moment.errors.get(row.label)
    shown = "" if error is None else f"{error * 1e3:.3f}"
    return label_of(row), shown, duration(row.mean("seconds") or 0.0)


def _search(rows: Rows) -> Section:
    search = rows.comparison.search
    rates = [f"{rate:g}" for rate in search.learning_rates]
    lines = [line for row in rows.rows for line in _search_rows(row)]
    text = (
        f"Each row was searched over the learning rates {', '.join(rates)} and three values of one "
        f"setting of its own, seed {search.seed}, {search.share * 100.0:g} % of the epochs each, "
        "and by nothing but the MSE (× 10³) on the last training images, which no run trained on. "
        "The lowest, in bold, was taken for the runs above. No test image was at hand."
        f"{_edges(rows)}"
    )
    head = ("method", "setting", "value", *(f"learning rate {rate}" for rate in rates))
    return Section("The search", text, head, tuple(lines))


def _edges(rows: Rows) -> str:
    """The sentence on choices that a wider search might better; empty where there are none."""
    at_edge = [
        f"{row.label} ({' and '.join(_edge_text(row, name) for name in row.search.at_edge)})"
        for row in rows.rows
        if row.search.at_edge
    ]
    if not at_edge:
        return ""
    return (
        f" Marked {EDGE} are choices at the edge of what was tried, beyond which a lower one may "
        f"lie: {', '.join(at_edge)}."
    )


def _edge_text(row: Row, name: str) -> str:
    rate, knob = point_text(row.point)
    return f"learning rate {rate}" if name == "learning_rate" else f"`{row.method.knob.key}` {knob}"


def _search_rows(row: Row) -> list[tuple[str, ...]]:
    knob, tried = row.method.knob, row.search.tried
    mark = f" {EDGE}" if row.search.at_edge else ""
    lines: list[tuple[str, ...]] = []
    for value in knob.values:
        cells: list[str] = []
        for point, record in tried:
            if point.knob != value:
                continue
            shown = "" if record is None else _searched(record)
            cells.append(f"**{shown}**{mark}" if point == row.point else shown)
        lines.append((row.label, f"`{knob.key}`", knob_text(value), *cells))
    return lines


def _searched(record: dict[str, object]) -> str:
    if record["failed"]:
        return "diverged"
    mse = record["mse"]
    assert isinstance(mse, float)
    return f"{mse * 1e3:.3f}"


def _origin(rows: Rows) -> Section:
    head = ("method", "learning rate", "setting", "seed", "steps", "images", "commit", "hardware")
    lines = [
        (
            row.label,
            *point_text(row.point),
            str(seed),
            f"{record.get('steps', 0):,}",
            f"{record.get('images', 0):,}",
            f"`{record['commit']}`",
            record["hardware"],
        )
        for row in rows.rows
        for seed, record in sorted(row.finals.items())
    ]
    return Section("Where they come from", _sources(rows), head, tuple(lines))


def _sources(rows: Rows) -> str:
    searched = [r for row in rows.rows for _, r in row.search.tried if r is not None]
    made = Counter((record["commit"], record["hardware"]) for record in searched)
    lines = [f"{count} of commit `{c}` on {h}" for (c, h), count in sorted(made.items())]
    text = f"Every run is in `{rows.comparison.store.name}`, with its settings and learning curve."
    if lines:
        text += f" Runs of the search: {'; '.join(lines)}."
    if rows.others:
        text += f" {rows.others} further runs in it belong to other settings and are not used."
    return text
