"""Taking turns: order within a request, turns between requests, batches of one key only."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from service.fair_queue import FairQueue, Flow


@dataclass(frozen=True)
class Item:
    flow: int
    number: int
    key: str = "a"
    num_rows: int = 1
    is_dead: bool = False


def _filled(items: list[Item]) -> FairQueue[Item]:
    queue: FairQueue[Item] = FairQueue()
    flows: dict[int, Flow[Item]] = {}
    for item in items:
        queue.push(flows.setdefault(item.flow, Flow()), item)
    return queue


def _take(queue: FairQueue[Item], max_rows: int = 1) -> list[Item]:
    return queue.take(lambda _: max_rows, lambda item: item.is_dead).batch


def test_a_small_request_passes_a_large_one() -> None:
    queue = _filled([Item(0, number) for number in range(100)] + [Item(1, 0)])
    assert _take(queue) == [Item(0, 0)]
    assert _take(queue) == [Item(1, 0)]
    assert _take(queue) == [Item(0, 1)]


def test_a_batch_is_filled_with_what_fits_from_every_flow() -> None:
    queue = _filled([Item(0, 0, num_rows=2), Item(1, 0, "b"), Item(2, 0, num_rows=3), Item(3, 0)])
    batch = _take(queue, max_rows=4)
    assert [(item.flow, item.num_rows) for item in batch] == [(0, 2), (3, 1)]
    assert queue.num_rows == 4


def test_an_entry_larger_than_a_batch_still_runs() -> None:
    assert _take(_filled([Item(0, 0, num_rows=9)]), max_rows=4) == [Item(0, 0, num_rows=9)]


def test_dead_entries_are_dropped_and_returned() -> None:
    queue = _filled([Item(0, 0, is_dead=True), Item(0, 1), Item(1, 0, is_dead=True)])
    taken = queue.take(lambda _: 8, lambda item: item.is_dead)
    assert taken.batch == [Item(0, 1)]
    assert len(taken.dropped) == 2
    assert queue.num_rows == 0


ITEMS = st.builds(
    Item,
    flow=st.integers(0, 4),
    number=st.just(0),
    key=st.sampled_from("ab"),
    num_rows=st.integers(1, 5),
    is_dead=st.booleans(),
)


@given(st.lists(ITEMS, max_size=40), st.integers(1, 8))
def test_every_entry_comes_out_once_and_in_the_order_of_its_flow(
    drawn: list[Item], max_rows: int
) -> None:
    items = [Item(i.flow, n, i.key, i.num_rows, i.is_dead) for n, i in enumerate(drawn)]
    queue = _filled(items)
    batches: list[list[Item]] = []
    dropped: list[Item] = []
    while queue.num_rows:
        taken = queue.take(lambda _: max_rows, lambda item: item.is_dead)
        batches.append(taken.batch)
        dropped += taken.dropped
    ran = [item for batch in batches for item in batch]
    assert sorted(i.number for i in ran) == [i.number for i in items if not i.is_dead]
    assert sorted(i.number for i in dropped) == [i.number for i in items if i.is_dead]
    for flow in range(5):
        numbers = [item.number for item in ran if item.flow == flow]
        assert numbers == sorted(numbers)
    for batch in filter(None, batches):
        assert len({item.key for item in batch}) == 1
        assert len(batch) == 1 or sum(item.num_rows for item in batch) <= max_rows
