"""What the report of a comparison says: where the subjects stand, and its tables."""

from training.compare.cells import (
    QUALITY,
    SHOWN_BITS,
    Section,
    difference_text,
    duration,
    figure,
    knob_text,
    label_of,
    note_of,
    origin,
    point_text,
    quality_heads,
    spent,
    time_of,
)
from training.compare.rows import Row, Rows
from training.compare.standing import EqualTime, equal_time, ranked, verdict
from training.pictures import SHOWN

EDGE = "†"


def sections(rows: Rows) -> list[Section]:
    """Main table, equal time, search, origin."""
    return [_main(rows), _equal_time(rows), _search(rows), origin(rows)]


def budget(rows: Rows) -> str:
    """What every row had, in one sentence."""
    return (
        "Every row: the same trunk and start of it, images and order of images, "
        f"{spent(rows)}, and the same search. The figures are "
        "means over these seeds, of all test images, which were looked at once a run, at its end. "
        "MSE is on [0, 1]; perplexity is hard and pooled over the set."
    )


def _main(rows: Rows) -> Section:
    head = (
        "method",
        SHOWN["mse"][0],
        "to the lowest, × 10³ [95 %]",
        "verdict",
        *quality_heads(),
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
    lowest = ranked(rows)
    return (
        label_of(row),
        figure(row, "mse"),
        difference_text(row, lowest[0]) if lowest else "",
        verdict(rows, row) if row.seeds else "",
        *(figure(row, name) for name in (*QUALITY, *SHOWN_BITS)),
        time_of(row),
        note_of(row),
    )


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
    if name == "learning_rate" or row.method.knob is None:
        return f"learning rate {rate}"
    return f"`{row.method.knob.key}` {knob}"


def _search_rows(row: Row) -> list[tuple[str, ...]]:
    knob, tried = row.method.knob, row.search.tried
    assert knob is not None
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
