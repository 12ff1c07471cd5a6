"""Work-conserving batching: a free runner takes what is queued, and nothing ever waits for a timer.

Each runner is a thread. It takes entries of one kind and shape from the queue, runs the model on
them together, and hands every entry its own rows. An entry may bring a way to load its rows and to
finish them, which the runner goes too; rows that are too many for a batch are parts of one answer.
The future of an entry lives in the entry: a caller who leaves cancels it, and the entry is dropped
before the model runs. When a batch fails its rows run one by one, so that only the failing ones are
lost.
"""

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.entry import UNFINISHED, Answer, Arrays, Entry, Row, Times, entries_of
from service.fair_queue import FairQueue, Flow
from vqtok.errors import DeadlineExceeded, Draining, ModelFailure

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class BatchReport:
    """What an observer is told after each batch: seconds on the device, each entry's waiting."""

    kind: str
    num_rows: int
    seconds: float
    waited: Sequence[float]


_NEVER = Times(0.0, 0.0, 0.0, 0.0)


class Observer(Protocol):
    """Called from runner threads."""

    def batch_done(self, report: BatchReport) -> None: ...

    def rows_dropped(self, num_rows: int, reason: str) -> None: ...


class Batcher:
    """Runs `kinds`: name -> a function of `(n, *shape)` that gives arrays of n rows.

    `max_rows(kind, shape)` bounds a batch. `submit` belongs to the event loop; the functions of
    `kinds` are called from `num_runners` threads.
    """

    def __init__(
        self,
        kinds: Mapping[str, Callable[[NDArray[Any]], Arrays]],
        *,
        max_rows: Callable[[str, tuple[int, ...]], int],
        num_runners: int,
        observer: Observer,
    ) -> None:
        self._kinds = kinds
        self._max_rows = max_rows
        self._observer = observer
        self._queue: FairQueue[Entry] = FairQueue()
        self._wake = threading.Condition()
        self._closed = False
        self._runners = [
            threading.Thread(target=self._run, name=f"runner-{index}", daemon=True)
            for index in range(num_runners)
        ]
        for runner in self._runners:
            runner.start()

    @property
    def num_queued(self) -> int:
        """Rows that wait for a runner."""
        return self._queue.num_rows

    def max_rows(self, kind: str, shape: tuple[int, ...]) -> int:
        """The most rows of this kind and shape that run together."""
        return self._max_rows(kind, shape)

    def submit(
        self,
        flow: Flow[Entry],
        kind: str,
        rows: NDArray[Any],
        deadline: float,
        finish: Callable[[list[Row]], Any] = list,
    ) -> asyncio.Future[Answer[Any]]:
        """Queue rows, in as many parts as they need; the future has what `finish` makes of all of
        them in order. To cancel it drops what has not run.

        `flow` belongs to one request: entries of one flow keep their order, and flows take turns.
        After `deadline` (monotonic) nothing is run any more.
        """
        most = self._max_rows(kind, rows.shape[1:])
        return self._queue_all(flow, entries_of(kind, rows, most, finish, deadline))

    def queue(self, flow: Flow[Entry], entry: Entry) -> asyncio.Future[Answer[Any]]:
        """As `submit`, for an entry that loads and finishes its rows itself."""
        return self._queue_all(flow, [entry])

    def _queue_all(
        self, flow: Flow[Entry], entries: Sequence[Entry]
    ) -> asyncio.Future[Answer[Any]]:
        done: asyncio.Future[Answer[Any]] = asyncio.get_running_loop().create_future()
        with self._wake:
            if self._closed:
                done.set_exception(Draining("The service is shutting down."))
                return done
            for entry in entries:
                entry.done = done
                self._queue.push(flow, entry)
            self._wake.notify(len(entries))
        return done

    def close(self, timeout: float = 5.0) -> bool:
        """Let the runners finish what is queued and end; False when they did not in time."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        ends_at = time.monotonic() + timeout
        for runner in self._runners:
            runner.join(max(0.0, ends_at - time.monotonic()))
        return not any(runner.is_alive() for runner in self._runners)

    def _run(self) -> None:
        while self._run_next_batch():
            pass

    def _run_next_batch(self) -> bool:
        # The batch is local to this call: a waiting runner must not keep the last one's arrays.
        batch = self._next_batch()
        if batch is not None:
            self._run_batch(batch)
        return batch is not None

    def _next_batch(self) -> list[Entry] | None:
        while True:
            with self._wake:
                while not self._queue.num_rows:
                    if self._closed:
                        return None
                    self._wake.wait()
                taken = self._queue.take(
                    lambda entry: self._max_rows(entry.kind, entry.shape), _is_dead
                )
                for entry in taken.batch:
                    entry.begin()
            for entry in taken.dropped:
                self._drop(entry)
            if taken.batch:
                return taken.batch

    def _drop(self, entry: Entry) -> None:
        if entry.done.cancelled():
            self._observer.rows_dropped(entry.num_rows, "disconnect")
        else:
            self._observer.rows_dropped(entry.num_rows, "deadline")
            late = DeadlineExceeded("The time for this request ran out.")
            _deliver([(entry, late)], _NEVER)

    def _run_batch(self, batch: list[Entry]) -> None:
        taken = time.monotonic()
        answers: list[tuple[Entry, Any]] = []
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
        finished = [(entry, value) for entry, value in answers if value is not UNFINISHED]
        if finished:
            _deliver(finished, times)


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    if len(arrays) == 1:
        # A tile is a view of its image, and runtimes want values that follow each other.
        return np.ascontiguousarray(arrays[0])
    return np.concatenate(arrays)


def _is_dead(entry: Entry) -> bool:
    return entry.done.cancelled() or time.monotonic() > entry.deadline


def _run_arrays(
    run: Callable[[NDArray[Any]], Arrays], arrays: Sequence[NDArray[Any]]
) -> list[list[Row]]:
    """The rows of each array, of all of them run together."""
    some = [array for array in arrays if len(array)]
    if not some:
        return [[] for _ in arrays]
    try:
        joined = _joined(some)
    # There may be too little memory for all of them at once.
    except Exception as error:
        if len(arrays) > 1:
            return [rows for array in arrays for rows in _run_arrays(run, [array])]
        log.exception("no array of %d items of shape %s", len(arrays[0]), arrays[0].shape[1:])
        return [[_failure(error)] * len(arrays[0])]
    rows = iter(_run_rows(run, joined))
    return [list(itertools.islice(rows, len(array))) for array in arrays]


def _run_rows(run: Callable[[NDArray[Any]], Arrays], rows: NDArray[Any]) -> list[Row]:
    try:
        arrays = run(rows)
    # A runtime may raise anything at all, and a runner has to survive it.
    except Exception as error:
        if len(rows) == 1:
            log.exception("the model failed on one item of shape %s", rows.shape[1:])
            return [_failure(error)]
        return [row for one in range(len(rows)) for row in _run_rows(run, rows[one : one + 1])]
    return [tuple(array[index] for array in arrays) for index in range(len(rows))]


def _failure(error: Exception) -> ModelFailure:
    return ModelFailure(f"The model failed on this item ({type(error).__name__}).")


def _deliver(answers: Sequence[tuple[Entry, Any]], times: Times) -> None:
    def set_results() -> None:
        for entry, value in answers:
            if entry.done.done():
                continue
            if isinstance(value, Exception):
                entry.done.set_exception(value)
            else:
                entry.done.set_result(entry.answer(value, times))

    # The loop is closed when the process ends without waiting for its runners.
    with contextlib.suppress(RuntimeError):
        answers[0][0].done.get_loop().call_soon_threadsafe(set_results)
