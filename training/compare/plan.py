"""The runs that a comparison consists of, and what identifies each."""

import copy
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from training.compare.settings import Comparison, MethodSettings
from training.loop import num_steps
from training.settings import RunSettings, set_value, settings_from

Phase = Literal["search", "final"]
CHANGES_NO_RESULT = (
    ("name",),
    ("data", "folder"),
    ("data", "num_workers"),
    ("schedule", "checkpoint_every"),
    ("schedule", "validate_every"),
)


class Point(NamedTuple):
    """What the search varies; an ablation has one point, without a knob."""

    learning_rate: float
    knob: Any = None


@dataclass(frozen=True)
class PlannedRun:
    """One run. table: its settings as TOML has them, without a rhythm of validation."""

    label: str
    phase: Phase
    seed: int
    point: Point
    table: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """16 hex digits of what decides the outcome: the settings as written, and the phase.

        Defaults that the settings leave out are not in it, so that a setting added to the program
        later leaves the ids of finished runs as they are.
        """
        kept = {"phase": self.phase, **reduced(self.table)}
        text = json.dumps(_plain(kept), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def settings(self, num_images: int, validations: int) -> RunSettings:
        """The settings for that many training images: finals are validated `validations` times.

        A search run is validated at its end alone.
        """
        table = copy.deepcopy(dict(self.table))
        steps = num_steps(settings_from(table, self.label).schedule, num_images)
        points = validations if self.phase == "final" else 1
        set_value(table, "schedule.validate_every", math.ceil(steps / points))
        return settings_from(table, self.label)


def reduced(table: Mapping[str, Any]) -> dict[str, Any]:
    """A run's table without places and rhythms, on which no result depends."""
    kept = copy.deepcopy(dict(table))
    for *parents, last in CHANGES_NO_RESULT:
        place = kept
        for parent in parents:
            place = place.get(parent, {})
        place.pop(last, None)
    return kept


def points_of(comparison: Comparison, method: MethodSettings) -> list[Point]:
    """What the search of a row tries, the same number for every row."""
    rates = comparison.search.learning_rates
    if method.knob is None:
        return [Point(rate) for rate in rates]
    return [Point(rate, value) for rate in rates for value in method.knob.values]


def searches_of(comparison: Comparison, method: MethodSettings) -> list[PlannedRun]:
    """The row's search: one seed, a share of the epochs. None in an ablation."""
    if comparison.reference:
        return []
    seed = comparison.search.seed
    points = points_of(comparison, method)
    return [_planned(comparison, method, "search", point, seed) for point in points]


def first_runs_of(comparison: Comparison, method: MethodSettings) -> list[PlannedRun]:
    """What the row begins with: its search, or in an ablation its runs at full budget."""
    searches = searches_of(comparison, method)
    return searches or finals_of(comparison, method, points_of(comparison, method)[0])


def finals_of(comparison: Comparison, method: MethodSettings, point: Point) -> list[PlannedRun]:
    """The row's runs at full budget, one a seed."""
    return [_planned(comparison, method, "final", point, seed) for seed in comparison.seeds]


def _planned(
    comparison: Comparison, method: MethodSettings, phase: Phase, point: Point, seed: int
) -> PlannedRun:
    table = copy.deepcopy(comparison.base)
    share = comparison.search.share if phase == "search" else 1.0
    table |= {"name": f"{method.label}, {phase}, seed {seed}", "seed": seed}
    set_value(table, "model.method", method.method)
    for name, value in method.quantizer.items():
        set_value(table, f"model.quantizer.{name}", copy.deepcopy(value))
    table["objective"] = method.objective.model_dump()
    set_value(table, "optimiser.learning_rate", point.learning_rate)
    for key, value in method.overrides.items():
        set_value(table, key, copy.deepcopy(value))
    if method.knob is not None:
        set_value(table, method.knob.key, copy.deepcopy(point.knob))
    schedule = table.get("schedule", {})
    set_value(table, "schedule.epochs", schedule.get("epochs", 1) * share)
    return PlannedRun(method.label, phase, seed, point, table)


def _plain(value: Any) -> Any:
    """Numbers as floats, so that 1 and 1.0 are the same setting."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
