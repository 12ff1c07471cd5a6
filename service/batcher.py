"""Work-conserving batching: what is queued runs as soon as a runner is free, and nothing ever waits
for a timer.

The future of an entry lives in the entry: a caller who leaves cancels it, and the entry is dropped
before the model runs. Rows that are too many for a batch are parts of one answer.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from service.batch import BatchRunner, Observer
from service.entry import Answer, Entry, entries_of
from service.fair_queue import Turns
from service.lanes import Lane, LoopLane, ThreadLane
from service.rows import Arrays, Rows, itself
from vqtok.errors import Draining

RowLimit = Callable[[str, tuple[int, ...]], int]
"""How many rows of a kind and a shape run together."""


class Batcher:
    """Runs `kinds`: name -> a function of `(n, *shape)` that gives arrays of n rows.

    `max_rows` bounds a batch. `submit` and `queue` belong to the event loop; the functions of
    `kinds` are called from `num_runners` threads, or by the loop for batches of at most
    `rows_on_loop` where that is not 0.
    """

    def __init__(
        self,
        kinds: Mapping[str, Callable[[NDArray[Any]], Arrays]],
        *,
        max_rows: RowLimit,
        num_runners: int,
        observer: Observer,
        rows_on_loop: RowLimit = lambda kind, shape: 0,
    ) -> None:
        runner = BatchRunner(kinds, observer)
        self._max_rows = max_rows
        self._rows_on_loop = rows_on_loop
        self._threads = ThreadLane(runner, lambda e: max_rows(e.kind, e.shape), num_runners)
        self._loop = LoopLane(runner, lambda e: rows_on_loop(e.kind, e.shape))

    @property
    def num_queued(self) -> int:
        """Rows that wait for a runner."""
        return self._threads.num_rows + self._loop.num_rows

    def max_rows(self, kind: str, shape: tuple[int, ...]) -> int:
        """The most rows of this kind and shape that run together."""
        return self._max_rows(kind, shape)

    def submit(
        self,
        turns: Turns[Entry],
        kind: str,
        rows: NDArray[Any],
        deadline: float,
        finish: Callable[[Rows], Any] = itself,
    ) -> asyncio.Future[Answer[Any]]:
        """Queue rows, in as many parts as a batch is bounded to; the future has what `finish` makes
        of all of them in order. To cancel it drops what has not run.

        `turns` belong to one request: its entries keep their order, and requests take turns. After
        `deadline` (monotonic) nothing is run any more.
        """
        shape = rows.shape[1:]
        most = self._max_rows(kind, shape)
        return self._push(turns, entries_of(kind, rows, most, finish, deadline))

    def queue(self, turns: Turns[Entry], entry: Entry) -> asyncio.Future[Answer[Any]]:
        """As `submit`, for an entry that loads and finishes its rows itself."""
        return self._push(turns, [entry])

    def _push(self, turns: Turns[Entry], entries: Sequence[Entry]) -> asyncio.Future[Answer[Any]]:
        done: asyncio.Future[Answer[Any]] = asyncio.get_running_loop().create_future()
        for entry in entries:
            entry.done = done
        try:
            self._lane_of(entries[0]).push(turns, entries)
        except Draining as error:
            done.set_exception(error)
        return done

    def _lane_of(self, largest: Entry) -> Lane:
        fits = largest.num_rows <= self._rows_on_loop(largest.kind, largest.shape)
        return self._loop if fits else self._threads

    def close(self, timeout: float = 5.0) -> bool:
        """Let what is queued be finished, and the runners end; False when that took too long. For
        another thread than the event loop's, which has a part in it.
        """
        ends_at = time.monotonic() + timeout
        ended = [lane.close(ends_at) for lane in (self._loop, self._threads)]
        return all(ended)
