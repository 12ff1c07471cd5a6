"""The order of the work, and one process's part in it."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from training.compare.choice import search_of
from training.compare.plan import PlannedRun, finals_of, searches_of
from training.compare.run import forget, perform
from training.compare.settings import Comparison
from training.compare.store import Record, Store, claimed
from training.data import Splits
from training.progress import Bar, Show

OrderName = Literal["table", "rows"]
Key = Callable[[Comparison, PlannedRun], tuple[int, ...]]
WAIT_SECONDS = 2.0


def _table_first(comparison: Comparison, run: PlannedRun) -> tuple[int, ...]:
    """The search and the first seed of the paper's rows, of the yardsticks, then more seeds."""
    row = _row_number(comparison, run)
    if run.phase == "search":
        return 0, comparison.method[row].yardstick, 0, row
    place = comparison.seeds.index(run.seed)
    return min(place, 1), comparison.method[row].yardstick if place == 0 else place, 1, row


def _row_by_row(comparison: Comparison, run: PlannedRun) -> tuple[int, ...]:
    place = 0 if run.phase == "search" else 1 + comparison.seeds.index(run.seed)
    return _row_number(comparison, run), place


ORDERS: dict[OrderName, Key] = {"table": _table_first, "rows": _row_by_row}


def pending(
    comparison: Comparison, records: Mapping[str, Record], order: OrderName = "table"
) -> list[PlannedRun]:
    """What can be run now, in order: searches that have not ended, finals of those that have."""
    runs: list[PlannedRun] = []
    for method in comparison.method:
        runs += searches_of(comparison, method)
        point = search_of(comparison, method, records).chosen
        runs += finals_of(comparison, method, point) if point else []
    unfinished = [run for run in runs if run.digest not in records]
    return sorted(unfinished, key=lambda run: ORDERS[order](comparison, run))


def size_of(comparison: Comparison) -> int:
    """How many runs the comparison has."""
    searches = sum(len(searches_of(comparison, method)) for method in comparison.method)
    return searches + len(comparison.method) * len(comparison.seeds)


def run_grid(
    comparison: Comparison,
    splits: Splits,
    work: Path,
    show: Show,
    *,
    order: OrderName = "table",
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """Run whatever is unfinished, beside any other process that has the same store and `work`.

    Each run trains in a folder of `work` with its digest as name. `after_each` is called when a
    run's record is in the store. What another process has claimed is waited for, and taken over if
    that process ends without a record.
    """
    store = Store(comparison.store)
    with show("all runs", size_of(comparison)) as whole:
        while True:
            records = store.by_digest()
            runs = pending(comparison, records, order)
            _say(whole, comparison, records, runs)
            if not runs:
                return
            if any(_take(run, comparison, splits, work, show) for run in runs):
                after_each()
            else:
                whole.note("waiting for another process")
                time.sleep(WAIT_SECONDS)


def _take(run: PlannedRun, comparison: Comparison, splits: Splits, work: Path, show: Show) -> bool:
    """Perform the run unless another process does; whether it was performed here."""
    store, folder = Store(comparison.store), work / run.digest
    with claimed(folder) as mine:
        if not mine:
            return False
        if run.digest in store.by_digest():
            return True
        store.append(perform(run, folder, splits, comparison.validations, show))
        if run.phase == "search":
            forget(folder)
    return True


def _row_number(comparison: Comparison, run: PlannedRun) -> int:
    return [method.label for method in comparison.method].index(run.label)


def _say(
    whole: Bar, comparison: Comparison, records: Mapping[str, Record], runs: list[PlannedRun]
) -> None:
    """Where the grid stands, and how much is left."""
    unsearched = [
        method for method in comparison.method if not search_of(comparison, method, records).ended
    ]
    searches = sum(run.phase == "search" for run in runs)
    finals = len(runs) - searches + len(unsearched) * len(comparison.seeds)
    whole.reach(size_of(comparison) - searches - finals)
    whole.note(f"left: {searches} of the search, {finals} finals")
