"""Entries of many requests, taken in turns, so that a large request cannot hold up small ones.

A plain data structure: no threads, no clock, no futures.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar


class Queued(Protocol):
    """What the queue must know of an entry: entries of equal `key` may share a batch, and
    `num_rows` counts towards its size.
    """

    @property
    def key(self) -> object: ...

    @property
    def num_rows(self) -> int: ...


EntryT = TypeVar("EntryT", bound=Queued)


class Taken(NamedTuple, Generic[EntryT]):
    """A batch of one key, in order of turns, and the dead entries that were met on the way."""

    batch: list[EntryT]
    dropped: list[EntryT]


class Flow(Generic[EntryT]):
    """The waiting entries of one request, in order."""

    def __init__(self) -> None:
        self.entries: deque[EntryT] = deque()


class FairQueue(Generic[EntryT]):
    """Flows in rotation: a batch begins with the flow whose turn it is, and is filled up with what
    lies at the head of any flow and fits.
    """

    def __init__(self) -> None:
        self._rotation: deque[Flow[EntryT]] = deque()
        self.num_rows = 0

    def push(self, flow: Flow[EntryT], entry: EntryT) -> None:
        """Put an entry at the end of its flow."""
        if not flow.entries:
            self._rotation.append(flow)
        flow.entries.append(entry)
        self.num_rows += entry.num_rows

    def take(
        self, max_rows: Callable[[EntryT], int], is_dead: Callable[[EntryT], bool]
    ) -> Taken[EntryT]:
        """The next batch: entries of one key. The first is taken whatever its size, others while
        their rows fit `max_rows(first)`. Dead entries are never in it. Empty when nothing waits.
        """
        taken: Taken[EntryT] = Taken([], [])
        while self._rotation and not taken.batch:
            flow = self._rotation.popleft()
            self._drop_dead(flow, is_dead, taken)
            if flow.entries:
                taken.batch.append(self._pop(flow))
            if flow.entries:
                self._rotation.append(flow)
        if taken.batch:
            self._fill(taken, max_rows(taken.batch[0]), is_dead)
        return taken

    def _fill(self, taken: Taken[EntryT], max_rows: int, is_dead: Callable[[EntryT], bool]) -> None:
        key = taken.batch[0].key
        room = max_rows - taken.batch[0].num_rows
        found = True
        while found and room > 0:
            found = False
            for flow in self._rotation:
                self._drop_dead(flow, is_dead, taken)
                head = flow.entries[0] if flow.entries else None
                if head is not None and head.key == key and head.num_rows <= room:
                    taken.batch.append(self._pop(flow))
                    room -= head.num_rows
                    found = True
        self._rotation = deque(flow for flow in self._rotation if flow.entries)

    def _drop_dead(
        self, flow: Flow[EntryT], is_dead: Callable[[EntryT], bool], taken: Taken[EntryT]
    ) -> None:
        while flow.entries and is_dead(flow.entries[0]):
            taken.dropped.append(self._pop(flow))

    def _pop(self, flow: Flow[EntryT]) -> EntryT:
        entry = flow.entries.popleft()
        self.num_rows -= entry.num_rows
        return entry


class Turns(Generic[EntryT]):
    """The flows of one request, one in each queue that it uses."""

    def __init__(self) -> None:
        self._flows: dict[FairQueue[EntryT], Flow[EntryT]] = {}

    def flow(self, queue: FairQueue[EntryT]) -> Flow[EntryT]:
        """Its flow in a queue."""
        found = self._flows.get(queue)
        if found is None:
            found = self._flows[queue] = Flow()
        return found
