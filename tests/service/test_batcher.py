"""The batcher on the fake engine: identity, faults, turns, callers who leave, deadlines."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import service.batch
from service.entry import Answer, Entry
from service.fair_queue import Turns
from service.rows import Rows
from tests.service.batching import batching, expected, image, poison, submit
from vqtok.errors import DeadlineExceeded, Draining, ModelFailure


async def _each_caller_gets_its_own(num: int, runners: int, rows_on_loop: int) -> None:
    with batching(0.002, runners, rows_on_loop=rows_on_loop) as (batcher, engine, _):
        images = [image(seed, side=8 if seed % 3 else 12) for seed in range(num)]
        answers = await asyncio.gather(*[submit(batcher, rows) for rows in images])
        for rows, answer in zip(images, answers, strict=True):
            (row,) = answer.value
            assert isinstance(row, tuple)
            np.testing.assert_array_equal(row[0], expected(rows)[0])
        assert num / len(engine.batch_sizes) > 1


@pytest.mark.parametrize(("runners", "rows_on_loop"), [(1, 0), (4, 0), (1, 8)])
def test_each_caller_gets_the_tokens_of_its_own_image(runners: int, rows_on_loop: int) -> None:
    asyncio.run(_each_caller_gets_its_own(64, runners, rows_on_loop))


def test_a_lone_request_does_not_wait_for_company() -> None:
    async def run() -> float:
        with batching() as (batcher, _, notes):
            await submit(batcher, image(0))
            return notes.batches[0].waited[0]

    assert asyncio.run(run()) < 0.05


@pytest.mark.parametrize("rows_on_loop", [0, 8])
def test_a_failing_item_fails_alone(rows_on_loop: int) -> None:
    async def run() -> None:
        with batching(delay=0.005, rows_on_loop=rows_on_loop) as (batcher, _, _):
            good = [submit(batcher, image(seed)) for seed in range(5)]
            mixed = submit(batcher, np.concatenate([image(7), poison(), image(8)]))
            more = [submit(batcher, image(seed)) for seed in range(10, 15)]
            for seed, future in zip([*range(5), *range(10, 15)], [*good, *more], strict=True):
                (row,) = (await future).value
                assert isinstance(row, tuple)
                np.testing.assert_array_equal(row[0], expected(image(seed))[0])
            first, failed, last = (await mixed).value
            assert isinstance(failed, ModelFailure)
            assert isinstance(first, tuple)
            assert isinstance(last, tuple)
            np.testing.assert_array_equal(last[0], expected(image(8))[0])

    asyncio.run(run())


@pytest.mark.parametrize("rows_on_loop", [0, 1])
def test_who_leaves_is_dropped_before_the_model_runs_and_hurts_nobody(rows_on_loop: int) -> None:
    async def run() -> None:
        with batching(0.05, 1, 1, rows_on_loop) as (batcher, engine, notes):
            first = submit(batcher, image(0))
            leaving = [submit(batcher, image(seed)) for seed in range(1, 5)]
            staying = submit(batcher, image(9))
            # On the loop nothing runs before this test waits.
            if not rows_on_loop:
                await asyncio.sleep(0.01)
            for future in leaving:
                future.cancel()
            await first
            (row,) = (await staying).value
            assert isinstance(row, tuple)
            np.testing.assert_array_equal(row[0], expected(image(9))[0])
            assert notes.dropped == {"disconnect": 4}
            assert len(engine.batch_sizes) == 2

    asyncio.run(run())


def test_who_leaves_while_its_batch_runs_hurts_nobody() -> None:
    async def run() -> None:
        with batching(delay=0.05) as (batcher, _, _):
            blocker = submit(batcher, image(0))
            mates = [submit(batcher, image(seed)) for seed in range(1, 6)]
            await blocker
            await asyncio.sleep(0.02)
            mates[2].cancel()
            for seed in (1, 2, 4, 5):
                (row,) = (await mates[seed - 1]).value
                assert isinstance(row, tuple)
                np.testing.assert_array_equal(row[0], expected(image(seed))[0])

    asyncio.run(run())


@pytest.mark.parametrize("rows_on_loop", [0, 1])
def test_after_its_deadline_an_entry_does_not_run(rows_on_loop: int) -> None:
    async def run() -> None:
        with batching(0.05, 1, 1, rows_on_loop) as (batcher, engine, notes):
            first = submit(batcher, image(0))
            late = submit(batcher, image(1), seconds=0.01)
            await first
            with pytest.raises(DeadlineExceeded):
                await late
            assert notes.dropped == {"deadline": 1}
            assert len(engine.batch_sizes) == 1

    asyncio.run(run())


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    async def run() -> None:
        with batching(delay=0.01, max_rows=1) as (batcher, _, _):
            flow: Turns[Entry] = Turns()
            large = [submit(batcher, image(seed), flow) for seed in range(20)]
            await asyncio.sleep(0.015)
            await submit(batcher, image(99))
            assert sum(future.done() for future in large) < 6
            await asyncio.gather(*large)

    asyncio.run(run())


@pytest.mark.parametrize("rows_on_loop", [0, 8])
def test_closing_finishes_what_is_queued_and_takes_nothing_more(rows_on_loop: int) -> None:
    async def run() -> None:
        with batching(delay=0.01, rows_on_loop=rows_on_loop) as (batcher, _, _):
            waiting = [submit(batcher, image(seed)) for seed in range(20)]
            assert await asyncio.to_thread(batcher.close)
            assert all(len(answer.value) == 1 for answer in await asyncio.gather(*waiting))
            with pytest.raises(Draining):
                await submit(batcher, image(0))

    asyncio.run(run())


def test_entries_that_load_and_finish_themselves_share_a_batch_and_fail_alone() -> None:
    async def run() -> None:
        with batching(delay=0.05) as (batcher, _, notes):
            first = submit(batcher, image(0))
            await asyncio.sleep(0.01)
            futures = [batcher.queue(Turns(), _whole(seed)) for seed in range(1, 7)]
            plain = submit(batcher, image(7))
            await first
            answers = await asyncio.gather(*futures, return_exceptions=True)
            for seed, answer in enumerate(answers, start=1):
                if seed in (2, 5):
                    assert isinstance(answer, ValueError)
                    continue
                assert isinstance(answer, Answer)
                tokens = expected(image(seed))[0]
                assert answer.value == (seed, None if seed == 4 else tokens.tolist())
                times = answer.times
                assert times.taken <= times.loaded <= times.modelled <= times.finished
            (row,) = (await plain).value
            assert isinstance(row, tuple)
            assert notes.batches[1].num_rows == 5

    asyncio.run(run())


def _whole(seed: int) -> Entry:
    """An entry of one image; 2 fails to load, 5 to finish, and 4 has nothing to run on."""

    def load() -> NDArray[np.uint8]:
        if seed == 2:
            raise ValueError("it does not load")
        return image(seed)[: 0 if seed == 4 else 1]

    def finish(rows: Rows) -> tuple[int, Any]:
        if seed == 5:
            raise ValueError("it does not finish")
        tokens = [row[0].tolist() for row in rows if isinstance(row, tuple)]
        return seed, tokens[0] if tokens else None

    shape = image(seed).shape[1:]
    return Entry("encode", shape, 1, load, finish, time.monotonic() + 10)


def test_who_cannot_be_put_together_for_want_of_memory_runs_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joined = service.batch._joined

    def short_of_memory(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        if sum(map(len, arrays)) > 2:
            raise MemoryError
        return joined(arrays)

    async def run() -> None:
        with batching(delay=0.05) as (batcher, _, notes):
            first = submit(batcher, image(0))
            await asyncio.sleep(0.01)
            small = [submit(batcher, image(seed)) for seed in range(1, 4)]
            large = submit(batcher, np.concatenate([image(seed) for seed in range(3)]))
            await first
            for seed, future in enumerate(small, start=1):
                (row,) = (await asyncio.wait_for(future, 10)).value
                assert isinstance(row, tuple)
                np.testing.assert_array_equal(row[0], expected(image(seed))[0])
            failed = (await asyncio.wait_for(large, 10)).value
            assert [type(row) for row in failed] == [ModelFailure] * 3
            assert notes.batches[1].num_rows == 6
            await asyncio.wait_for(submit(batcher, image(9)), 10)

    monkeypatch.setattr(service.batch, "_joined", short_of_memory)
    asyncio.run(run())


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["keep", "cancel", "poison"]), st.integers(1, 6)), max_size=25
)


@settings(max_examples=40)
@given(ACTIONS, st.integers(1, 3), st.integers(1, 8), st.sampled_from([0, 2, 8]))
def test_whatever_the_others_do_every_caller_who_stays_is_answered_right(
    actions: list[tuple[str, int]], runners: int, max_rows: int, rows_on_loop: int
) -> None:
    async def run() -> None:
        with batching(0.0005, runners, max_rows, rows_on_loop) as (batcher, _, _):
            futures: list[asyncio.Future[Answer[Rows]]] = []
            for seed, (action, count) in enumerate(actions):
                rows = np.concatenate([image(seed)] * count)
                if action == "poison":
                    rows[0] = poison()[0]
                futures.append(submit(batcher, rows))
            for (action, _), future in zip(actions, futures, strict=True):
                if action == "cancel":
                    future.cancel()
            for seed, ((action, count), future) in enumerate(zip(actions, futures, strict=True)):
                if action == "cancel":
                    continue
                rows = (await asyncio.wait_for(future, 20)).value
                assert len(rows) == count
                assert isinstance(rows[0], ModelFailure) == (action == "poison")
                for row in rows[action == "poison" :]:
                    assert isinstance(row, tuple)
                    np.testing.assert_array_equal(row[0], expected(image(seed))[0])
            # On the loop, who left last is dropped in one of its next turns.
            await asyncio.sleep(0.005)

    asyncio.run(run())
