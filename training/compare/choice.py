"""What a row's search ends with."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from training.compare.plan import Point, searches_of
from training.compare.settings import Comparison, MethodSettings
from training.compare.store import Record


@dataclass(frozen=True)
class Search:
    """A row's search. tried: each point with its record, None where it has not ended."""

    tried: tuple[tuple[Point, Record | None], ...]

    @property
    def num_ended(self) -> int:
        return sum(record is not None for _, record in self.tried)

    @property
    def ended(self) -> bool:
        return self.num_ended == len(self.tried)

    @property
    def chosen(self) -> Point | None:
        """The point of the lowest validation MSE, the first of equal ones.

        None before every run has ended, and where every run diverged.
        """
        if not self.ended:
            return None
        point, record = min(self.tried, key=lambda tried: validation_error(tried[1]))
        return point if math.isfinite(validation_error(record)) else None


def search_of(
    comparison: Comparison, method: MethodSettings, records: Mapping[str, Record]
) -> Search:
    """The search of a row, as far as it has come; `records` by digest."""
    runs = searches_of(comparison, method)
    return Search(tuple((run.point, records.get(run.digest)) for run in runs))


def validation_error(record: Record | None) -> float:
    """The MSE on the validation images; a run that diverged is worse than any other."""
    if record is None or record["failed"]:
        return math.inf
    return record["mse"]
