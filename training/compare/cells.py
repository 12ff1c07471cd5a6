"""What the pages of comparisons and ablations are made of: sections, and cells of a row."""

from collections import Counter
from dataclasses import dataclass

from training.compare.plan import Point
from training.compare.rows import Row, Rows
from training.compare.statistics import paired_interval
from training.pictures import SHOWN

SHOWN_BITS = {
    "mutual_information_bits": ("I(X;Z), bits a token", 1.0, ".2f"),
    "bits_fixed": ("bits an image, fixed length", 1.0, ".0f"),
    "bits_entropy": ("bits an image, entropy", 1.0, ".0f"),
}
QUALITY = ("psnr", "ssim", "perplexity", "used_codes", "soft_perplexity", "posterior_entropy")
SCALE = 1e3
"""Of errors, in text."""


@dataclass(frozen=True)
class Section:
    """A heading, what the table means, and the table."""

    title: str
    text: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def figure(row: Row, name: str) -> str:
    """A row's mean as text; empty where there is none."""
    _, scale, form = (SHOWN | SHOWN_BITS)[name]
    value = row.mean(name)
    return "" if value is None else format(value * scale, form)


def hardware_of(rows: Rows) -> list[str]:
    """What the compared runs ran on."""
    return sorted({record["hardware"] for row in rows.measured for record in row.compared})


def duration(seconds: float) -> str:
    """Time as people say it."""
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.1f} min" if seconds < 7200.0 else f"{seconds / 3600.0:.1f} h"


def quality_heads() -> list[str]:
    """The heads of the columns that `QUALITY` and `SHOWN_BITS` name."""
    return [*(SHOWN[name][0] for name in QUALITY), *(head for head, _, _ in SHOWN_BITS.values())]


def time_of(row: Row) -> str:
    seconds = row.mean("seconds")
    return "" if seconds is None else duration(seconds)


def difference_text(row: Row, to: Row) -> str:
    """Of the mean test MSE × 10³, with its interval over seeds; empty for the same row or none."""
    if not row.seeds or not to.seeds or row.label == to.label:
        return ""
    mean = f"{(row.error - to.error) * SCALE:+.3f}"
    interval = paired_interval(row.values("mse"), to.values("mse"))
    if interval is None:
        return mean
    return f"{mean} [{interval.low * SCALE:+.3f}, {interval.high * SCALE:+.3f}]"


def spent(rows: Rows) -> str:
    """Epochs, steps, images and seeds of the compared runs."""
    records = [record for row in rows.measured for record in row.compared]
    steps, images = (
        " or ".join(f"{count:,}" for count in sorted({record[name] for record in records}))
        for name in ("steps", "images")
    )
    epochs = rows.comparison.base.get("schedule", {}).get("epochs", 1)
    seeds = rows.seeds or rows.comparison.seeds
    plural = "s" if len(seeds) > 1 else ""
    passes = "epoch" if epochs == 1 else "epochs"
    taken = f" ({steps} steps, {images} images)" if records else ""
    return f"{epochs:g} {passes}{taken}, seed{plural} {', '.join(map(str, seeds))}"


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


def changes_text(row: Row) -> str:
    """What the row has otherwise than the shared run."""
    return ", ".join(
        f"`{key.rpartition('.')[2]}` = {knob_text(value)}"
        for key, value in row.method.overrides.items()
    )


def point_text(point: Point | None) -> tuple[str, str]:
    """Learning rate and knob as text."""
    if point is None:
        return "", ""
    return f"{point.learning_rate:g}", "" if point.knob is None else knob_text(point.knob)


def knob_text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def origin(rows: Rows) -> Section:
    """Which runs the figures are of, and what made them."""
    head = ("method", "learning rate", "setting", "seed", "steps", "images", "commit", "hardware")
    lines = [
        (
            row.label,
            f"{record['learning_rate']:g}",
            point_text(row.point)[1] or changes_text(row),
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
