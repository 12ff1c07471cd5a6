"""Where the subjects stand: the first paragraph of the results, whatever it has to say."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from training.compare.cells import SCALE, duration, hardware_of
from training.compare.rows import Row, Rows
from training.compare.statistics import ENOUGH_SEEDS, Interval, paired_interval


class EqualTime(NamedTuple):
    """Whose time is everybody's, in seconds of training; errors: validation MSE by label."""

    label: str
    seconds: float
    errors: Mapping[str, float]


def equal_time(rows: Rows) -> EqualTime | None:
    """At the time that the fastest ranked row, or the stated one, needed for its whole budget.

    None without figures, and where the runs had different hardware, whose times do not compare.
    """
    measured, candidates = rows.measured, ranked(rows)
    if not candidates or len(hardware_of(rows)) > 1:
        return None
    times = {row.label: row.mean("seconds") or math.inf for row in measured}
    stated = rows.comparison.time_reference
    fastest = min((row.label for row in candidates), key=lambda label: times[label])
    label = stated if stated in times else fastest
    errors = {row.label: row.error_at(times[label]) for row in measured}
    known = {name: error for name, error in errors.items() if error is not None}
    return EqualTime(label, times[label], known)


def ranked(rows: Rows) -> list[Row]:
    """The rows that are ranked: those of the paper, lowest test MSE first."""
    return [row for row in rows.measured if not row.method.yardstick]


def difference(rows: Rows, row: Row) -> Interval | None:
    """Of the row's test MSE and the lowest of the ranked rows, paired by seed."""
    lowest = ranked(rows)[0]
    return paired_interval(row.values("mse"), lowest.values("mse"))


def tied(rows: Rows, row: Row) -> bool:
    """Whether the row, with enough seeds, cannot be told from the lowest: zero is in the interval.

    Of the lowest row itself: whether any other ranked row is tied with it.
    """
    if len(rows.seeds) < ENOUGH_SEEDS:
        return False
    order = ranked(rows)
    if row.label == order[0].label:
        return any(tied(rows, other) for other in order[1:])
    interval = difference(rows, row)
    return interval is not None and interval.holds_zero


def verdict(rows: Rows, row: Row) -> str:
    """best, tied or nothing; never anything with fewer than three seeds."""
    if row.method.yardstick or len(rows.seeds) < ENOUGH_SEEDS:
        return ""
    if tied(rows, row):
        return "tied"
    return "best" if row.label == ranked(rows)[0].label else ""


def first_paragraph(rows: Rows) -> str:
    """Rank and distance of each subject, at equal steps and at equal time."""
    sentences = [
        sentence
        for label in rows.comparison.subjects
        for sentence in _of_subject(rows, rows.of(label))
    ]
    if len(hardware_of(rows)) > 1:
        sentences.append("Times do not compare: the runs had different hardware.")
    return " ".join([*sentences, *_cautions(rows)])


def _of_subject(rows: Rows, row: Row) -> list[str]:
    if row.diverged:
        return [f"{row.label} has no figures: {row.diverged}."]
    if not row.seeds:
        return [f"{row.label} has no finished run yet."]
    errors = {other.label: other.error for other in ranked(rows)}
    steps = _position(row.label, errors, "test MSE", "at equal steps")
    yardsticks = _lower_yardsticks(rows, row)
    return [f"{steps}{_significance(rows, row)}.", *yardsticks, *_at_equal_time(rows, row)]


def _position(label: str, errors: Mapping[str, float], figure: str, when: str) -> str:
    order = sorted(errors, key=lambda name: errors[name])
    place, own = order.index(label) + 1, errors[label]
    error = f"{own * SCALE:.3f} × 10⁻³"
    start = f"{label} is number {place} of {len(order)} {when}: its {figure} of {error}"
    if len(order) == 1:
        return f"{start} stands alone so far"
    rival = order[1] if place == 1 else order[0]
    gap, side = errors[rival] - own, "the next" if place == 1 else "the lowest"
    relation = "below" if gap >= 0.0 else "above"
    distance = f"{abs(gap) * SCALE:.3f} × 10⁻³ ({abs(gap) / errors[rival]:.1%})"
    return f"{start} is {distance} {relation} that of {rival}, {side}"


def _significance(rows: Rows, row: Row) -> str:
    if len(rows.seeds) < ENOUGH_SEEDS or len(ranked(rows)) < 2:
        return ""
    if tied(rows, row):
        return ", and that is a tie"
    return ", and the 95 % interval of the paired difference leaves out zero"


def _lower_yardsticks(rows: Rows, row: Row) -> list[str]:
    """Those with a lower error at no more bits an image."""
    bits = row.mean("bits_fixed") or 0.0
    lower = [
        f"{other.label} ({other.error * SCALE:.3f})"
        for other in rows.measured
        if other.method.yardstick
        and other.error < row.error
        and (other.mean("bits_fixed") or math.inf) <= bits
    ]
    return [f"Yardsticks below it at no more bits: {', '.join(lower)}."] if lower else []


def _at_equal_time(rows: Rows, row: Row) -> list[str]:
    moment = equal_time(rows)
    if moment is None:
        return []
    places = {other.label for other in ranked(rows)}
    errors = {name: error for name, error in moment.errors.items() if name in places}
    when = f"at equal time ({duration(moment.seconds)}, what {moment.label} took)"
    if row.label not in errors:
        return [f"It has no validation yet {when}."]
    return [_position(row.label, errors, "validation MSE", when) + "."]


def _cautions(rows: Rows) -> list[str]:
    count, finished, total = len(rows.seeds), len(rows.measured), len(rows.rows)
    said: list[str] = []
    if 0 < count < ENOUGH_SEEDS:
        seeds = "1 seed" if count == 1 else f"{count} seeds"
        said.append(f"With {seeds}, fewer than three, nothing is called best.")
    if count >= ENOUGH_SEEDS:
        said.append(
            f"{count} seeds; tied means that the 95 % interval of the paired difference over them "
            "contains zero, each pair for itself."
        )
    if finished < total:
        said.append(f"{finished} of {total} rows have figures so far.")
    return said
