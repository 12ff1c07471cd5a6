"""An ablation as a TOML file has it: one run, and the same with one change each."""

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from training.settings import SettingsError, mistakes, settings_from

EVERYBODYS = ("data", "seed", "name")


class Change(BaseModel):
    """A row. set: "table.key" = value, what it has otherwise than the run in `[base]`.

    note: what a reader has to know of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    set: dict[str, Any] = Field(min_length=1)
    note: str = ""

    @field_validator("set")
    @classmethod
    def _set(cls, changes: dict[str, Any]) -> dict[str, Any]:
        wrong = [key for key in changes if key.partition(".")[0] in EVERYBODYS]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} must be the same in every row of an ablation")
        return changes


def is_ablation(table: Mapping[str, Any]) -> bool:
    return "change" in table


def comparison_table(table: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The table of the comparison that an ablation is: its first row is `[base]` as it stands.

    `[base]` is a whole run, whose name is the row's label. Raises SettingsError naming `origin` and
    what is wrong.
    """
    kept = copy.deepcopy(dict(table))
    changes = _changes(kept.pop("change"), origin)
    base = kept.get("base")
    run = settings_from(base if isinstance(base, dict) else {}, f"{origin}: base")
    assert isinstance(base, dict)
    for key in ("name", "objective"):
        del base[key]
    del base["model"]["method"], base["optimiser"]["learning_rate"]
    row = {"method": run.model.method, "objective": run.objective.model_dump()}
    return {
        **kept,
        "subjects": [run.name],
        "reference": run.name,
        "search": {"learning_rates": [run.optimiser.learning_rate]},
        "method": [
            {**row, "label": run.name},
            *({**row, "label": c.label, "overrides": c.set, "note": c.note} for c in changes),
        ],
    }


def _changes(rows: Any, origin: str) -> list[Change]:
    if not isinstance(rows, list):
        raise SettingsError(f"{origin}: change must be a list, [[change]]")
    try:
        return [Change.model_validate(row) for row in rows]
    except ValidationError as error:
        raise SettingsError(f"{origin}: change: {mistakes(error)}") from error
