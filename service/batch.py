"""A batch on its way through the model: loaded, run, finished and answered.

An entry may bring a way to load its rows and to finish them, which the batch goes too; what it
raises there is its own. When the model fails on a batch its rows run one by one, so that only the
failing ones are lost.
"""

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.entry import UNFINISHED, Entry, Times
from service.rows import Arrays, Rows
from vqtok.errors import DeadlineExceeded, ModelFailure

log = logging.getLogger(__name__)

Answers = list[tuple[Entry, Any]]
"""Entries with what became of them: a value, or an error to raise."""


@dataclass(frozen=True)
class BatchReport:
    """What an observer is told after each batch: seconds on the device, each entry's waiting."""

    kind: str
    num_rows: int
    seconds: float
    waited: Sequence[float]


class Observer(Protocol):
    """Is told what happens; called from any thread."""

    def batch_done(self, report: BatchReport) -> None: ...

    def rows_dropped(self, num_rows: int, reason: str) -> None: ...


class BatchRunner:
    """Runs batches by `kinds`: name -> a function of `(n, *shape)` that gives arrays of n rows.
    Safe in several threads where these are.
    """

    def __init__(
        self, kinds: Mapping[str, Callable[[NDArray[Any]], Arrays]], observer: Observer
    ) -> None:
        self._kinds = kinds
        self._observer = observer

    def run(self, batch: Sequence[Entry]) -> tuple[Answers, Times]:
        """What became of the entries that are complete now."""
        taken = time.monotonic()
        answers: Answers = []
        arrays: list[tuple[Entry, NDArray[Any]]] = []
        for entry in batch:
            try:
                arrays.append((entry, entry.load()))
            # It is this entry's own, whatever it is, and a runner has to survive it.
            except Exception as error:  # noqa: BLE001
                answers.append((entry, error))
        loaded = time.monotonic()
        outcome = _run_arrays(self._kinds[batch[0].kind], [array for _, array in arrays])
        modelled = time.monotonic()
        for (entry, _), rows in zip(arrays, outcome, strict=True):
            try:
                answers.append((entry, entry.finish(rows)))
            except Exception as error:  # noqa: BLE001
                answers.append((entry, error))
        self._observer.batch_done(
            BatchReport(
                kind=batch[0].kind,
                num_rows=sum(map(len, outcome)),
                seconds=modelled - loaded,
                waited=[taken - entry.submitted for entry in batch],
            )
        )
        times = Times(taken, loaded, modelled, time.monotonic())
        return [each for each in answers if each[1] is not UNFINISHED], times

    def drop(self, entry: Entry) -> None:
        """Have done with an entry whose caller has gone or whose deadline has passed."""
        if entry.done.cancelled():
            self._observer.rows_dropped(entry.num_rows, "disconnect")
        else:
            self._observer.rows_dropped(entry.num_rows, "deadline")
            late = DeadlineExceeded("The time for this request ran out.")
            deliver([(entry, late)], _NEVER)


_NEVER = Times(0.0, 0.0, 0.0, 0.0)


def is_dead(entry: Entry) -> bool:
    """Whether nobody waits for an entry any more."""
    return entry.done.cancelled() or time.monotonic() > entry.deadline


def deliver(answers: Answers, times: Times) -> None:
    """Have the event loop, which is another thread, set the results."""
    if not answers:
        return
    loop = answers[0][0].done.get_loop()
    # The loop is closed when the process ends without waiting for its runners.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(set_results, answers, times)


def set_results(answers: Answers, times: Times) -> None:
    """Give each entry's future what became of it. For the event loop's thread."""
    for entry, value in answers:
        if entry.done.done():
            continue
        if isinstance(value, Exception):
            entry.done.set_exception(value)
        else:
            entry.done.set_result(entry.answer(value, times))


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    if len(arrays) == 1:
        # A tile is a view of its image, and runtimes want values that follow each other.
        return np.ascontiguousarray(arrays[0])
    return np.concatenate(arrays)


def _run_arrays(
    run: Callable[[NDArray[Any]], Arrays], arrays: Sequence[NDArray[Any]]
) -> list[Rows]:
    """The rows of each array, of all of them run together."""
    some = [array for array in arrays if len(array)]
    if not some:
        return [Rows.of(()) for _ in arrays]
    try:
        joined = _joined(some)
    # There may be too little memory for all of them at once.
    except Exception as error:
        if len(arrays) > 1:
            return [rows for array in arrays for rows in _run_arrays(run, [array])]
        log.exception("no array of %d items of shape %s", len(arrays[0]), arrays[0].shape[1:])
        return [Rows.of([_failure(error)] * len(arrays[0]))]
    rows = _run_rows(run, joined)
    if len(arrays) == 1:
        return [rows]
    ends = itertools.accumulate(map(len, arrays))
    return [
        rows.part(end - len(array), len(array)) for array, end in zip(arrays, ends, strict=True)
    ]


def _run_rows(run: Callable[[NDArray[Any]], Arrays], rows: NDArray[Any]) -> Rows:
    try:
        return Rows(run(rows))
    # A runtime may raise anything at all, and a runner has to survive it.
    except Exception as error:
        if len(rows) == 1:
            log.exception("the model failed on one item of shape %s", rows.shape[1:])
            return Rows.of([_failure(error)])
        return Rows.joined([_run_rows(run, rows[i : i + 1]) for i in range(len(rows))])


def _failure(error: Exception) -> ModelFailure:
    return ModelFailure(f"The model failed on this item ({type(error).__name__}).")
