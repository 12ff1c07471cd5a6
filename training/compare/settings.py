"""What a comparison is: a TOML file with the shared run, the search, and one entry a row."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    field_validator,
    model_validator,
)

from models.quantizers import QUANTIZERS
from training.objectives import OBJECTIVES
from training.settings import ObjectiveSettings

SIZES = frozenset({"codebook_size", "code_dim"})
METHOD_KEYS = ("model.quantizer", "objective", "optimiser")
"""What a row may have of its own. Data, trunk and schedule are everybody's."""
TABLES = ("model.quantizer", "objective", "objective.options", "optimiser")
ELSEWHERE = {
    "name": "runs are named after their rows",
    "seed": "the seeds are `seeds`, that of the search is `search.seed`",
    "model.method": "each row names its own in `method`",
    "objective": "each row has its own in `objective`",
    "optimiser.learning_rate": "what is searched stands in `search.learning_rates`",
}
"""Keys of a run that the comparison sets, and where."""
KNOB_VALUES = 3


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Rate = Annotated[FiniteFloat, Field(gt=0)]


class SearchSettings(_Table):
    """Every row is searched over learning_rates × its knob, with `share` of the epochs."""

    learning_rates: tuple[Rate, ...] = Field(default=(1e-3, 3e-3, 1e-2), min_length=1)
    share: float = Field(default=0.2, gt=0, le=1)
    seed: int = 0


class Knob(_Table):
    """The one setting of a method that is searched: "objective.options.gamma", its values."""

    key: str
    values: tuple[Any, ...] = Field(min_length=KNOB_VALUES, max_length=KNOB_VALUES)

    @field_validator("key")
    @classmethod
    def _key(cls, key: str) -> str:
        if key == "optimiser.learning_rate":
            raise ValueError("the learning rate is searched in every row and is no row's knob")
        mistake = _not_own(key)
        if mistake:
            raise ValueError(mistake)
        return key

    @field_validator("values")
    @classmethod
    def _values(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        wrong = [str(value) for value in values if not _finite(value)]
        if wrong:
            raise ValueError(f"no value to search: {', '.join(wrong)}; take finite numbers")
        return values


class MethodSettings(_Table):
    """A row of the table.

    quantizer: options beside those in `[base.model.quantizer]`, which no row of the paper changes.
    knob: what its search varies; None in an ablation.
    yardstick: stands beside the paper's rows and is not ranked among them; only yardsticks may
    have `overrides`, as "table.key" = value, for a code space or a rate of their own. In an
    ablation they are what the row changes.
    needs_steps: how many steps its published schedule has; with fewer the row carries a note.
    """

    label: str
    method: str
    quantizer: dict[str, Any] = Field(default_factory=dict[str, Any])
    objective: ObjectiveSettings
    knob: Knob | None = None
    yardstick: bool = False
    overrides: dict[str, Any] = Field(default_factory=dict[str, Any])
    needs_steps: int = Field(default=0, ge=0)
    note: str = ""


class Comparison(_Table):
    """A comparison: the shared run, the search, the rows.

    base: a run's table without method, objective, seed and learning rate, which are refused there.
    store: the JSON list of finished runs; the reports are written beside it.
    subjects: the labels whose rank the report states first.
    reference: the label of the row that all others are changes of; "" unless the comparison is an
    ablation (`training.compare.ablation`), in which nothing is searched or ranked.
    time_reference: the row whose time is everybody's in the table at equal time; if "", the fastest
    that is no yardstick.
    validations: how many points a learning curve has.
    """

    title: str
    store: Path
    subjects: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    base: dict[str, Any]
    search: SearchSettings = SearchSettings()
    validations: int = Field(default=10, ge=1)
    time_reference: str = ""
    reference: str = ""
    method: tuple[MethodSettings, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wrong = [*_label_mistakes(self), *_unknown(self.method), *_ignored(self.base)]
        if not self.reference:
            wrong += [*_shared_options(self), *_overridden(self.method), *_knob_mistakes(self)]
        if self.base.get("data", {}).get("validation_images", 5_000) == 0:
            wrong.append("base.data.validation_images is 0, and the search needs images to choose")
        if len(set(self.seeds)) < len(self.seeds):
            wrong.append("a seed stands twice in `seeds`")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def _finite(value: object) -> bool:
    """Whether no number in it is infinite or none at all."""
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _not_own(key: str) -> str:
    """What is wrong with a row that sets this key; nothing where it may."""
    if any(key == own or key.startswith(f"{own}.") for own in METHOD_KEYS):
        return ""
    return f"{key} is the same for every row; a row's own keys are below {', '.join(METHOD_KEYS)}"


def _label_mistakes(comparison: Comparison) -> list[str]:
    labels = [method.label for method in comparison.method]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    named = (*comparison.subjects, comparison.time_reference, comparison.reference)
    return [f"two rows are called {label}" for label in twice] + [
        f"no row is called {label!r}; there are {', '.join(labels)}"
        for label in filter(None, named)
        if label not in labels
    ]


def _unknown(methods: Sequence[MethodSettings]) -> list[str]:
    """All unknown quantizers and objectives at once."""
    quantizers = dict.fromkeys(m.method for m in methods if m.method not in QUANTIZERS)
    objectives = dict.fromkeys(
        m.objective.name for m in methods if m.objective.name not in OBJECTIVES
    )
    wrong: list[str] = []
    if quantizers:
        known = ", ".join(QUANTIZERS)
        wrong.append(f"no quantizer is called {', '.join(quantizers)}; there are {known}")
    if objectives:
        known = ", ".join(OBJECTIVES)
        wrong.append(f"no objective is called {', '.join(objectives)}; there are {known}")
    return wrong


def _shared_options(comparison: Comparison) -> list[str]:
    shared = _shared_keys(comparison)
    return [
        f"{method.label} changes {', '.join(sorted(shared & set(method.quantizer)))}, which is the "
        "same for every row; a yardstick may put it into `overrides`"
        for method in comparison.method
        if shared & set(method.quantizer)
    ]


def _shared_keys(comparison: Comparison) -> set[str]:
    return set(comparison.base.get("model", {}).get("quantizer", {})) | SIZES


def _overridden(methods: Sequence[MethodSettings]) -> list[str]:
    """Rows of the paper with overrides, and yardsticks that override what is everybody's."""
    wrong = [
        f"{method.label} has overrides, which are for rows with yardstick = true"
        for method in methods
        if method.overrides and not method.yardstick
    ]
    for method in methods:
        mistakes = filter(None, map(_not_own, method.overrides))
        wrong += [f"{method.label}: {mistake}" for mistake in mistakes]
    return wrong


def _knob_mistakes(comparison: Comparison) -> list[str]:
    """Rows without a knob, or with one that searches what the others share; yardsticks may."""
    shared = {f"model.quantizer.{key}" for key in _shared_keys(comparison)} | {"objective.name"}
    wrong: list[str] = []
    for method in comparison.method:
        if method.knob is None:
            wrong.append(f"{method.label} has no knob, by which it is searched like the others")
            continue
        if method.yardstick:
            continue
        key = method.knob.key
        start = f"{method.label}: its knob {key}"
        if key in TABLES:
            wrong.append(f"{start} is a whole table; name one option in it")
        elif key.startswith("optimiser.") or any(f"{key}.".startswith(f"{s}.") for s in shared):
            wrong.append(f"{start} is the same for every row; only a yardstick may search it")
    return wrong


def _ignored(base: Mapping[str, Any]) -> list[str]:
    """What each row or run has of its own, so that the shared run's would be overwritten."""
    return [
        f"base.{key} is not used: {sentence}"
        for key, sentence in ELSEWHERE.items()
        if _holds(base, key)
    ]


def _holds(table: Mapping[str, Any], key: str) -> bool:
    first, _, rest = key.partition(".")
    if first not in table or not rest:
        return first in table
    return isinstance(table[first], Mapping) and _holds(table[first], rest)
