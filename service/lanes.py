"""Two ways from the queue into the model: threads, and the event loop itself."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from service.batch import BatchRunner, deliver, is_dead, set_results
from service.entry import Entry
from service.fair_queue import FairQueue, Turns
from vqtok.errors import Draining

MaxRows = Callable[[Entry], int]
"""The most rows that run together with those of an entry."""


class Lane(Protocol):
    """Entries in turns, on their way into the model. All but `close` belongs to the event loop."""

    @property
    def num_rows(self) -> int: ...

    def push(self, turns: Turns[Entry], entries: Sequence[Entry]) -> None:
        """Queue entries of one request.

        Raises:
            Draining: it has been closed.
        """
        ...

    def close(self, ends_at: float) -> bool:
        """Wait until nothing is queued or running; False when it is not so at `ends_at`
        (monotonic). For another thread than the event loop's.
        """
        ...


class ThreadLane:
    """Runner threads, each of which takes the next batch when it has done the last."""

    def __init__(self, runner: BatchRunner, max_rows: MaxRows, num_threads: int) -> None:
        self._runner = runner
        self._max_rows = max_rows
        self._queue: FairQueue[Entry] = FairQueue()
        self._wake = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"runner-{index}", daemon=True)
            for index in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def num_rows(self) -> int:
        return self._queue.num_rows

    def push(self, turns: Turns[Entry], entries: Sequence[Entry]) -> None:
        with self._wake:
            if self._closed:
                raise _draining()
            for entry in entries:
                self._queue.push(turns.flow(self._queue), entry)
            self._wake.notify(len(entries))

    def close(self, ends_at: float) -> bool:
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, ends_at - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while self._run_next_batch():
            pass

    def _run_next_batch(self) -> bool:
        # The batch is local to this call: a waiting runner must not keep the last one's arrays.
        batch = self._next_batch()
        if batch is not None:
            deliver(*self._runner.run(batch))
        return batch is not None

    def _next_batch(self) -> list[Entry] | None:
        while True:
            with self._wake:
                while not self._queue.num_rows:
                    if self._closed:
                        return None
                    self._wake.wait()
                taken = self._queue.take(self._max_rows, is_dead)
                for entry in taken.batch:
                    entry.begin()
            for entry in taken.dropped:
                self._runner.drop(entry)
            if taken.batch:
                return taken.batch


class LoopLane:
    """The event loop runs the model itself, a short batch at a time.

    On one core that is better than a thread: to change threads costs more than a short batch holds
    up, and whatever arrives during it runs together next.
    """

    def __init__(self, runner: BatchRunner, max_rows: MaxRows) -> None:
        self._runner = runner
        self._max_rows = max_rows
        self._queue: FairQueue[Entry] = FairQueue()
        self._is_planned = False
        self._closed = False

    @property
    def num_rows(self) -> int:
        return self._queue.num_rows

    def push(self, turns: Turns[Entry], entries: Sequence[Entry]) -> None:
        if self._closed:
            raise _draining()
        for entry in entries:
            self._queue.push(turns.flow(self._queue), entry)
        self._plan()

    def close(self, ends_at: float) -> bool:
        self._closed = True
        while self._queue.num_rows and time.monotonic() < ends_at:
            time.sleep(0.005)
        return not self._queue.num_rows

    def _plan(self) -> None:
        if not self._is_planned and self._queue.num_rows:
            self._is_planned = True
            loop = asyncio.get_running_loop()
            # Two turns of the loop: in the first the last answers go out, and what has arrived
            # comes in.
            loop.call_soon(loop.call_soon, self._run)

    def _run(self) -> None:
        self._is_planned = False
        taken = self._queue.take(self._max_rows, is_dead)
        for entry in taken.dropped:
            self._runner.drop(entry)
        for entry in taken.batch:
            entry.begin()
        if taken.batch:
            set_results(*self._runner.run(taken.batch))
        self._plan()


def _draining() -> Draining:
    return Draining("The service is shutting down.")
