"""Priors beside one another: the same tokens, images seen and search for each."""

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.priors import TABLES, MaskedPrior
from training.priors.measure import bits_of_images, first, one_by_one
from training.priors.runs import load_model, train_prior
from training.priors.settings import PriorSettings
from training.priors.store import FinishedRow, PriorStore
from training.priors.tokens import load_tokens
from training.progress import Show, bar
from training.settings import SettingsError, mistakes, read_table
from vqtok.bundle import Bundle

TOKENS_FILE = "tokens.npz"


class PriorRow(BaseModel):
    """A prior under a name; `schedule` is what it does otherwise than the base, and
    `learning_rates` those that it tries in place of the comparison's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    prior: dict[str, Any]
    schedule: dict[str, Any] = Field(default_factory=dict[str, Any])
    learning_rates: list[float] | None = Field(default=None, min_length=1)

    @property
    def is_learned(self) -> bool:
        return self.prior.get("kind") not in TABLES


class PriorComparison(BaseModel):
    """title, remark: of the page, and what else it is to say. store: the JSON that results are kept
    in, from the working directory, with the bits of every test image beside it. base: settings of a
    prior's training that all rows share. rows: tables among them, which have nothing to search.

    learning_rates, search_share: every learned row is trained with each rate over that share of the
    epochs, and over all of them with the best; with one rate there is nothing to search.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    remark: str = ""
    store: Path
    base: dict[str, Any]
    rows: list[PriorRow] = Field(min_length=1)
    learning_rates: list[float] = Field(min_length=1)
    search_share: float = Field(default=0.2, gt=0, le=1)

    def settings(self, row: PriorRow, rate: float | None, share: float) -> PriorSettings:
        """Those of a row at a learning rate, over a share of the epochs. Raises SettingsError."""
        table = copy.deepcopy(self.base)
        table |= {"name": row.name, "prior": row.prior}
        schedule = table.setdefault("schedule", {}) | row.schedule
        table["schedule"] = schedule
        if rate is None:
            schedule["epochs"] = 0.0
        else:
            schedule["epochs"] = schedule.get("epochs", 1.0) * share
            table.setdefault("optimiser", {})["learning_rate"] = rate
        try:
            return PriorSettings.model_validate(table)
        except ValidationError as error:
            raise SettingsError(f"row {row.name}: {mistakes(error)}") from error


def load_prior_comparison(path: Path, overrides: Sequence[str] = ()) -> PriorComparison:
    """Read a TOML file; `overrides` are "table.key=value" in TOML. Raises SettingsError."""
    try:
        return PriorComparison.model_validate(read_table(path, overrides))
    except ValidationError as error:
        raise SettingsError(f"{path}: {mistakes(error)}") from error


def compare_priors(
    comparison: PriorComparison, work: Path, names: Sequence[str] = (), show: Show = bar
) -> dict[str, Any]:
    """Train the rows `names`, or all, that the store does not have, below `work`; measure each on
    the test images as it ends, and put it into the store. Gives what that holds. Several processes
    may work on different rows of a store at a time.

    Raises SettingsError for a name that no row has, and for a row of the store that was trained
    otherwise than the comparison says.
    """
    known = [row.name for row in comparison.rows]
    for name in names:
        if name not in known:
            raise SettingsError(f"no row is called {name!r}; there are {', '.join(known)}")
    store = PriorStore(comparison.store)
    about = {name: getattr(comparison, name) for name in ("title", "remark", "search_share")}
    for name in store.rows():
        if name not in known:
            raise SettingsError(
                f"{comparison.store} has a row {name}, which the comparison has not: name another "
                "store, or move this one away"
            )
    for row in comparison.rows:
        finished = store.rows().get(row.name)
        if finished is not None:
            _require_same(finished, comparison, row)
        elif not names or row.name in names:
            store.add(_trained(comparison, row, work, show), known)
        store.describe(about)
    return store.document()


def _require_same(finished: FinishedRow, comparison: PriorComparison, row: PriorRow) -> None:
    record = finished.record
    settings = comparison.settings(row, record["learning_rate"], 1.0)
    asked = {
        "settings": json.loads(json.dumps(settings.to_table())),
        "tokenizer_id": str(Bundle.open(settings.bundle).manifest.tokenizer_id),
        "rates": list(_rates(comparison, row)),
        "search_share": comparison.search_share if row.is_learned else None,
    }
    was = {name: record[name] for name in ("settings", "tokenizer_id", "search_share")}
    was["rates"] = list(record["searched"]) or _only(record["learning_rate"])
    if asked != was:
        different = ", ".join(name for name in asked if asked[name] != was[name])
        raise SettingsError(
            f"{comparison.store} has a row {row.name} that was trained otherwise ({different}): "
            "name another store, or move this one away"
        )


def _rates(comparison: PriorComparison, row: PriorRow) -> dict[str, float]:
    rates = row.learning_rates or comparison.learning_rates
    return {f"{rate:g}": rate for rate in rates} if row.is_learned else {}


def _only(rate: float | None) -> list[str]:
    return [] if rate is None else [f"{rate:g}"]


def _trained(comparison: PriorComparison, row: PriorRow, work: Path, show: Show) -> FinishedRow:
    folder, tokens_file = work / row.name, work / TOKENS_FILE
    searched: dict[str, float] = {}
    rates = _rates(comparison, row)
    for name, rate in rates.items() if len(rates) > 1 else ():
        settings = comparison.settings(row, rate, comparison.search_share)
        found = train_prior(settings, folder / name, tokens_file=tokens_file, show=show)
        searched[name] = found["validation"]["bits_per_image"]
    best = rates[min(rates, key=lambda name: searched.get(name, 0.0))] if rates else None
    settings = comparison.settings(row, best, 1.0)
    result = train_prior(settings, folder / "whole", tokens_file=tokens_file, show=show)
    _, prior = load_model(folder / "whole")
    tokens = load_tokens(Bundle.open(settings.bundle), settings.data, tokens_file)
    bits = bits_of_images(prior, tokens.test, labelled=False, description="test")
    record = {
        "name": row.name,
        "kind": settings.prior.kind,
        "learning_rate": best,
        "searched": searched,
        "search_share": comparison.search_share if row.is_learned else None,
        "passes": prior.num_passes,
        **{name: result[name] for name in _KEPT},
    }
    if isinstance(prior, MaskedPrior):
        watched = first(tokens.validation, settings.schedule.choosing_images)
        record["one_by_one"] = asdict(one_by_one(prior, watched))
    return FinishedRow(record, bits.astype(np.float32))


_KEPT = (
    *("settings", "tokenizer_id", "num_tokens", "is_exact", "schedule", "schedules"),
    *("parameters", "steps", "images", "seconds", "hardware", "commit", "history", "validation"),
)
