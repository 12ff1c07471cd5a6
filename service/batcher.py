"""Work-conserving batching: a free runner takes what is queued, and nothing ever waits for a timer.

Each runner is a thread. It takes entries of one kind and shape from the queue, runs the model on
them together, and hands every entry its own rows. The future of an entry lives in the entry: a
caller who leaves cancels it, and the entry is dropped before the model runs. When a batch fails
its rows run one by one, so that only the failing ones are lost.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.fair_queue import FairQueue, Flow
from vqtok.errors import DeadlineExceeded, Draining, ModelFailure, VqtokError

log = logging.getLogger(__name__)

Arrays: TypeAlias = tuple[NDArray[Any], ...]
"""What the model gives for a batch: arrays of equally many rows."""

Row: TypeAlias = Arrays | VqtokError
"""What one row became: the arrays of that row, or why it failed."""


@dataclass(frozen=True)
class Answer:
    """What becomes of an entry: its rows in order, and when a runner took it (monotonic)."""

    rows: list[Row]
    started: float


@dataclass(eq=False)
class Entry:
    """Rows of one kind and shape that run together, and the future of their answer."""

    kind: str
    rows: NDArray[Any]
    deadline: float
    done: asyncio.Future[Answer]
    submitted: float = field(default_factory=time.monotonic)

    @property
    def key(self) -> tuple[str, tuple[int, ...]]:
        """Entries of equal key may run together."""
        return (self.kind, self.rows.shape[1:])

    @property
    def num_rows(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class BatchReport:
    """What an observer is told after each batch: seconds on the device, each entry's waiting."""

    kind: str
    num_rows: int
    seconds: float
    waited: Sequence[float]


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
        self, flow: Flow[Entry], kind: str, rows: NDArray[Any], deadline: float
    ) -> asyncio.Future[Answer]:
        """Queue rows; the future is this entry's. To cancel it drops the entry.

        `flow` belongs to one request: entries of one flow keep their order, and flows take turns.
        After `deadline` (monotonic) the entry is not run any more.
        """
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        entry = Entry(kind, rows, deadline, done)
        with self._wake:
            if self._closed:
                done.set_exception(Draining("The service is shutting down."))
                return done
            self._queue.push(flow, entry)
            self._wake.notify()
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
                    lambda entry: self._max_rows(entry.kind, entry.rows.shape[1:]), _is_dead
                )
            for entry in taken.dropped:
                self._drop(entry)
            if taken.batch:
                return taken.batch

    def _drop(self, entry: Entry) -> None:
        if entry.done.cancelled():
            self._observer.rows_dropped(entry.num_rows, "disconnect")
        else:
            self._observer.rows_dropped(entry.num_rows, "deadline")
            _deliver([(entry, DeadlineExceeded("The time for this request ran out."))])

    def _run_batch(self, batch: list[Entry]) -> None:
        started = time.monotonic()
        run = self._kinds[batch[0].kind]
        outcome = _run_entries(run, batch)
        answers: list[tuple[Entry, Answer | VqtokError]] = []
        first = 0
        for entry in batch:
            own = outcome[first : first + entry.num_rows]
            answers.append((entry, Answer(own, started)))
            first += entry.num_rows
        self._observer.batch_done(
            BatchReport(
                kind=batch[0].kind,
                num_rows=len(outcome),
                seconds=time.monotonic() - started,
                waited=[started - entry.submitted for entry in batch],
            )
        )
        _deliver(answers)


def _joined(batch: Sequence[Entry]) -> NDArray[Any]:
    if len(batch) == 1:
        # A tile is a view of its image, and runtimes want values that follow each other.
        return np.ascontiguousarray(batch[0].rows)
    return np.concatenate([entry.rows for entry in batch])


def _is_dead(entry: Entry) -> bool:
    return entry.done.cancelled() or time.monotonic() > entry.deadline


def _run_entries(run: Callable[[NDArray[Any]], Arrays], batch: Sequence[Entry]) -> list[Row]:
    try:
        rows = _joined(batch)
    # There may be too little memory for all of them at once.
    except Exception as error:
        if len(batch) > 1:
            return [row for entry in batch for row in _run_entries(run, [entry])]
        log.exception("no array of %d items of shape %s", batch[0].num_rows, batch[0].key[1])
        return [_failure(error)] * batch[0].num_rows
    return _run_rows(run, rows)


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


def _deliver(answers: list[tuple[Entry, Answer | VqtokError]]) -> None:
    def set_results() -> None:
        for entry, answer in answers:
            if entry.done.done():
                continue
            if isinstance(answer, VqtokError):
                entry.done.set_exception(answer)
            else:
                entry.done.set_result(answer)

    # The loop is closed when the process ends without waiting for its runners.
    with contextlib.suppress(RuntimeError):
        answers[0][0].done.get_loop().call_soon_threadsafe(set_results)
