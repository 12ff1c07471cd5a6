"""What waits in the queue: rows of one request, and what becomes of them."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from service.rows import Rows, itself

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Times:
    """When a runner took an entry, had loaded its batch, had run the model, and had finished all of
    it (monotonic).
    """

    taken: float
    loaded: float
    modelled: float
    finished: float


@dataclass(frozen=True)
class Answer(Generic[ResultT]):
    """What becomes of an entry: its rows in order, or what was made of them."""

    value: ResultT
    times: Times


@dataclass(eq=False)
class Entry:
    """At most `num_rows` rows of one kind and shape, which `load` gives and `finish` takes in a
    runner's thread; and the future of the answer. What either raises is this entry's alone. `parts`
    says of which whole it is a part, if it is one.
    """

    kind: str
    shape: tuple[int, ...]
    num_rows: int
    load: Callable[[], NDArray[Any]]
    finish: Callable[[Rows], Any]
    deadline: float
    parts: "Parts | None" = None
    done: asyncio.Future[Answer[Any]] = field(init=False)
    submitted: float = field(default_factory=time.monotonic)

    @property
    def key(self) -> tuple[str, tuple[int, ...]]:
        """Entries of equal key may run together."""
        return (self.kind, self.shape)

    def begin(self) -> None:
        """Note that a runner takes it now."""
        if self.parts is not None and self.parts.begun is None:
            self.parts.begun = time.monotonic()

    def answer(self, value: Any, times: Times) -> Answer[Any]:
        """The answer from a batch that had these times; of a whole, the first part's beginning
        counts.
        """
        if self.parts is not None and self.parts.begun is not None:
            times = replace(times, taken=self.parts.begun, loaded=self.parts.begun)
        return Answer(value, times)


class Parts:
    """What becomes of rows that run in parts: whoever finishes the last part finishes the whole.
    `begun` is when a runner took the first of them (monotonic).
    """

    def __init__(self, num_parts: int, finish: Callable[[Rows], Any]) -> None:
        self._rows = [Rows.of(())] * num_parts
        self._left = num_parts
        self._finish = finish
        self._lock = threading.Lock()
        self.begun: float | None = None

    def finish_part(self, index: int, rows: Rows) -> Any:
        """What the whole becomes, from whoever brings the last part; else UNFINISHED."""
        with self._lock:
            self._rows[index] = rows
            self._left -= 1
            is_last = not self._left
        return self._finish(Rows.joined(self._rows)) if is_last else UNFINISHED


UNFINISHED = object()
"""What a part becomes while others are still to run."""


def entries_of(
    kind: str,
    rows: NDArray[Any],
    most: int,
    finish: Callable[[Rows], Any],
    deadline: float,
) -> list[Entry]:
    """Entries of at most `most` rows each; the last of them to be finished has the answer, which
    `finish` makes of all rows in order.
    """
    shape = rows.shape[1:]
    if len(rows) <= most:
        return [Entry(kind, shape, len(rows), lambda: rows, finish, deadline)]
    slices = [rows[first : first + most] for first in range(0, len(rows), most)]
    parts = Parts(len(slices), finish)
    return [
        Entry(
            kind,
            shape,
            len(some),
            partial(itself, some),
            partial(parts.finish_part, index),
            deadline,
            parts,
        )
        for index, some in enumerate(slices)
    ]
