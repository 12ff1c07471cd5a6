"""Priors beside one another: the same tokens, images seen and search for each."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.priors import TABLES
from training.priors.measure import bits_of_images, standard_error
from training.priors.runs import load_model, train_prior
from training.priors.settings import PriorSettings
from training.priors.tokens import load_tokens
from training.progress import Show, bar
from training.settings import SettingsError, mistakes, read_table
from vqtok.bundle import Bundle

TOKENS_FILE = "tokens.npz"
BITS_FILE = "test-bits.npy"


class PriorComparison(BaseModel):
    """title: of the page. store: the JSON that results are kept in, from the configuration's
    working directory. base: settings of a prior's training that all rows share. rows: a name and
    a prior each, tables among them, which have nothing to search.

    learning_rates, search_share: every learned row is trained with each rate over that share of the
    epochs, and over all of them with the best.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    store: Path
    base: dict[str, Any]
    rows: list[dict[str, Any]] = Field(min_length=1)
    learning_rates: list[float] = Field(min_length=1)
    search_share: float = Field(default=0.2, gt=0, le=1)

    def settings(self, row: Mapping[str, Any], rate: float | None, share: float) -> PriorSettings:
        """Those of a row at a learning rate, over a share of the epochs. Raises SettingsError."""
        table = copy.deepcopy(self.base)
        table |= {"name": row["name"], "prior": row["prior"]}
        schedule = table.setdefault("schedule", {})
        if rate is None:
            schedule["epochs"] = 0.0
        else:
            schedule["epochs"] = schedule.get("epochs", 1.0) * share
            table.setdefault("optimiser", {})["learning_rate"] = rate
        try:
            return PriorSettings.model_validate(table)
        except ValidationError as error:
            raise SettingsError(f"row {row['name']}: {mistakes(error)}") from error


@dataclass(frozen=True)
class Finished:
    """One row: the search that came before (validation bits by learning rate), and its result."""

    name: str
    searched: dict[str, float]
    result: dict[str, Any]
    bits: NDArray[np.float64]

    @property
    def is_exact(self) -> bool:
        """Whether the bits are code lengths and no bound on them."""
        return self.result.get("is_exact", True)


def load_prior_comparison(path: Path, overrides: Sequence[str] = ()) -> PriorComparison:
    """Read a TOML file; `overrides` are "table.key=value" in TOML. Raises SettingsError."""
    try:
        return PriorComparison.model_validate(read_table(path, overrides))
    except ValidationError as error:
        raise SettingsError(f"{path}: {mistakes(error)}") from error


def compare_priors(comparison: PriorComparison, work: Path, show: Show = bar) -> dict[str, Any]:
    """Train what is not trained yet below `work`, measure all rows on the test images, and write
    the store. Gives what it holds.
    """
    finished = [_row(comparison, row, work, show) for row in comparison.rows]
    document: dict[str, Any] = {
        "title": comparison.title,
        "search_share": comparison.search_share,
        "rows": [_record(each, finished) for each in finished],
    }
    comparison.store.parent.mkdir(parents=True, exist_ok=True)
    comparison.store.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    return document


def _row(comparison: PriorComparison, row: Mapping[str, Any], work: Path, show: Show) -> Finished:
    folder, tokens = work / row["name"], work / TOKENS_FILE
    is_learned = row["prior"]["kind"] not in TABLES
    searched: dict[str, float] = {}
    rate: float | None = None
    if is_learned:
        for each in comparison.learning_rates:
            settings = comparison.settings(row, each, comparison.search_share)
            found = train_prior(settings, folder / f"{each:g}", tokens_file=tokens, show=show)
            searched[f"{each:g}"] = found["validation"]["bits_per_image"]
        rate = float(min(searched, key=lambda name: searched[name]))
    settings = comparison.settings(row, rate, 1.0)
    result = train_prior(settings, folder / "whole", tokens_file=tokens, show=show)
    return Finished(row["name"], searched, result, _test_bits(folder / "whole", tokens))


def _test_bits(folder: Path, tokens_file: Path) -> NDArray[np.float64]:
    """Bits of each test image, or the bound on them, measured once and kept in the run's folder."""
    path = folder / BITS_FILE
    if not path.exists():
        settings, prior = load_model(folder)
        tokens = load_tokens(Bundle.open(settings.bundle), settings.data, tokens_file)
        np.save(path, bits_of_images(prior, tokens.test, labelled=False, description="test"))
    return np.load(path)


def _record(row: Finished, others: Sequence[Finished]) -> dict[str, Any]:
    kept = ("schedule", "schedules", "parameters", "steps", "images", "seconds", "hardware")
    rate = row.result["settings"]["optimiser"]["learning_rate"]
    return {
        "name": row.name,
        "num_tokens": row.result["num_tokens"],
        "kind": row.result["settings"]["prior"]["kind"],
        "is_exact": row.is_exact,
        **{name: row.result[name] for name in (*kept, "commit", "history", "validation")},
        "learning_rate": rate if row.searched else None,
        "searched": row.searched,
        "test": {
            "images": len(row.bits),
            "bits_per_image": float(row.bits.mean()),
            "standard_error": standard_error(row.bits),
        },
        # The mean over images of this row's bits minus another's, and its 95 % interval; where
        # both are code lengths.
        "minus": {
            other.name: _interval(row.bits - other.bits)
            for other in others
            if other is not row and row.is_exact and other.is_exact
        },
    }


def _interval(differences: NDArray[np.float64]) -> list[float]:
    mean, half = float(differences.mean()), 1.96 * standard_error(differences)
    return [mean, mean - half, mean + half]
