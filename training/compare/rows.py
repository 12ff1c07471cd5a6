"""What the store says of each row, and which runs are compared."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from training.compare.choice import Search, search_of
from training.compare.plan import Point, finals_of
from training.compare.settings import Comparison, MethodSettings
from training.compare.statistics import at_time
from training.compare.store import Record


@dataclass(frozen=True)
class Row:
    """A row of the table. finals: the runs at full budget by seed, also those that diverged.

    seeds: those that are compared; the row has a finished run of each, or there are none.
    """

    method: MethodSettings
    search: Search
    finals: Mapping[int, Record]
    seeds: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        return self.method.label

    @property
    def point(self) -> Point | None:
        return self.search.chosen

    @property
    def compared(self) -> list[Record]:
        """The runs that the row's figures are means over, by seed."""
        return [self.finals[seed] for seed in self.seeds]

    @property
    def diverged(self) -> str:
        """The sentence of a final that diverged, or that the whole search did; empty if none."""
        sentences = [record["failed"] for record in self.finals.values() if record["failed"]]
        if self.search.ended and self.search.chosen is None:
            return "every run of the search diverged"
        return sentences[0] if sentences else ""

    @property
    def error(self) -> float:
        """The mean test MSE over the compared seeds; infinite where there are none."""
        return fmean(self.values("mse")) if self.seeds else math.inf

    def mean(self, figure: str) -> float | None:
        """Over the compared seeds; None where it was not measured."""
        if not self.seeds or any(figure not in record for record in self.compared):
            return None
        return fmean(record[figure] for record in self.compared)

    def values(self, figure: str) -> list[float]:
        return [record[figure] for record in self.compared]

    def error_at(self, seconds: float) -> float | None:
        """The mean validation MSE after that time; None where a seed has no validation by then."""
        errors = [at_time(record["history"], seconds) for record in self.compared]
        known = [error for error in errors if error is not None]
        return fmean(known) if known and len(known) == len(errors) else None


@dataclass(frozen=True)
class Rows:
    """All rows, and the seeds that every row with figures has finished."""

    comparison: Comparison
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    others: int
    """How many records of the store belong to no run of this comparison."""

    def of(self, label: str) -> Row:
        return next(row for row in self.rows if row.label == label)

    @property
    def measured(self) -> list[Row]:
        """Those with figures, lowest MSE first."""
        return sorted((row for row in self.rows if row.seeds), key=lambda row: row.error)


def gather(comparison: Comparison, records: list[Record]) -> Rows:
    """The rows in the order of the configuration.

    Every mean is over the same seeds: those that each row has finished which has finished the
    first. A row with a final that diverged has no figures.
    """
    known = {record["digest"]: record for record in records}
    rows = [_row(comparison, method, known) for method in comparison.method]
    first = comparison.seeds[0]
    usable = [row for row in rows if first in row.finals and not row.diverged]
    seeds = tuple(s for s in comparison.seeds if usable and all(s in row.finals for row in usable))
    labels = {row.label for row in usable}
    compared = tuple(
        Row(row.method, row.search, row.finals, seeds if row.label in labels else ())
        for row in rows
    )
    used = sum(len(row.finals) + row.search.num_ended for row in rows)
    return Rows(comparison, compared, seeds, len(known) - used)


def _row(comparison: Comparison, method: MethodSettings, known: Mapping[str, Record]) -> Row:
    search = search_of(comparison, method, known)
    runs = finals_of(comparison, method, search.chosen) if search.chosen else []
    finals = {run.seed: known[run.digest] for run in runs if run.digest in known}
    return Row(method, search, finals)
