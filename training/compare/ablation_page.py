"""What the report of an ablation says: what each change does to the run that it changes."""

from training.compare.cells import (
    QUALITY,
    SCALE,
    SHOWN_BITS,
    Section,
    changes_text,
    difference_text,
    figure,
    note_of,
    origin,
    quality_heads,
    spent,
    time_of,
)
from training.compare.rows import Row, Rows
from training.compare.statistics import ENOUGH_SEEDS
from training.pictures import SHOWN


def lead(rows: Rows) -> str:
    """The reference's error, and the changes that lower and raise it most."""
    reference = rows.of(rows.comparison.reference)
    if not reference.seeds:
        return f"{reference.label} has {reference.diverged or 'no finished run yet'}."
    changes = [row for row in rows.measured if row is not reference]
    lower = [row for row in changes if row.error < reference.error]
    higher = [row for row in reversed(changes) if row.error > reference.error]
    return " ".join(
        [
            f"{reference.label}: test MSE {reference.error * SCALE:.3f} × 10⁻³.",
            *_most(lower, reference, "below"),
            *_most(higher, reference, "above"),
            *_caution(rows),
        ]
    )


def budget(rows: Rows) -> str:
    """What every row had, in one sentence."""
    return (
        "Every other row is the same run with the one change that its line states, nothing else "
        f"tuned again: {spent(rows)}. The figures are means over these seeds, of all test images, "
        "which were looked at once a run, at its end. MSE is on [0, 1]; perplexity is hard and "
        "pooled over the set."
    )


def sections(rows: Rows) -> list[Section]:
    """Main table, origin."""
    return [_main(rows), origin(rows)]


def _most(rows: list[Row], reference: Row, side: str) -> list[str]:
    if not rows:
        return []
    gap = abs(rows[0].error - reference.error)
    count = "1 change is" if len(rows) == 1 else f"{len(rows)} changes are"
    distance = f"{gap * SCALE:.3f} × 10⁻³ ({gap / reference.error:.1%})"
    return [f"{count} {side} it, {rows[0].label} the farthest: by {distance}."]


def _caution(rows: Rows) -> list[str]:
    count = len(rows.seeds)
    if count >= ENOUGH_SEEDS:
        return []
    seeds = "1 seed" if count == 1 else f"{count} seeds"
    return [f"With {seeds}, fewer than three, none is called better or worse."]


def _main(rows: Rows) -> Section:
    reference = rows.of(rows.comparison.reference)
    head = (
        "row",
        "changed",
        SHOWN["mse"][0],
        f"to {reference.label}, × 10³ [95 %]",
        *quality_heads(),
        "time",
        "note",
    )
    lines = tuple(_row(row, reference) for row in rows.rows)
    text = (
        "The fourth column is the mean difference of the test MSE, with Student's 95 % interval "
        "over seeds where there are several. Time is that of training steps, on a CPU that of the "
        "processor."
    )
    return Section("Test images, one change a row", text, head, lines)


def _row(row: Row, reference: Row) -> tuple[str, ...]:
    return (
        row.label,
        changes_text(row),
        figure(row, "mse"),
        difference_text(row, reference),
        *(figure(row, name) for name in (*QUALITY, *SHOWN_BITS)),
        time_of(row),
        note_of(row),
    )
