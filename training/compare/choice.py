"""What a row's search ends with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.compare.plan import Point, points_of, searches_of
from training.compare.settings import Comparison, MethodSettings
from training.compare.store import Record


@dataclass(frozen=True)
class Search:
    """A row's search. tried: each point with its record, None where it has not ended.

    given: the point of a row that is not searched.
    """

    tried: tuple[tuple[Point, Record | None], ...]
    given: Point | None = None

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
        if self.given is not None:
            return self.given
        if not self.ended:
            return None
        point, record = min(self.tried, key=lambda tried: validation_error(tried[1]))
        return point if math.isfinite(validation_error(record)) else None

    @property
    def at_edge(self) -> tuple[str, ...]:
        """Which parts of the chosen point, "learning_rate" or "knob", are the least or most tried.

        A range needs several numbers: nothing is at the edge of one, or of names and tables.
        """
        if self.chosen is None or self.given is not None:
            return ()
        points = [point for point, _ in self.tried]
        return tuple(
            name
            for name in Point._fields
            if _is_edge(getattr(self.chosen, name), [getattr(point, name) for point in points])
        )


def _is_edge(chosen: Any, values: Sequence[Any]) -> bool:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return numbers and min(values) < max(values) and chosen in (min(values), max(values))


def search_of(
    comparison: Comparison, method: MethodSettings, records: Mapping[str, Record]
) -> Search:
    """The search of a row, as far as it has come; `records` by digest."""
    runs = searches_of(comparison, method)
    if not runs:
        return Search((), points_of(comparison, method)[0])
    return Search(tuple((run.point, records.get(run.digest)) for run in runs))


def validation_error(record: Record | None) -> float:
    """The MSE on the validation images; a run that diverged is worse than any other."""
    if record is None or record["failed"]:
        return math.inf
    return record["mse"]
