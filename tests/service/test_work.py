"""Parts of a request that run together: room stays lent as long as a thread of them works."""

import asyncio
import threading
import time

import pytest

from service.budget import Budget
from service.pool import Pool
from service.work import gather_or_cancel

NUM_CHUNKS, NUM_TURNS = 6, 4


@pytest.mark.parametrize("num_cancels", [1, 3])
def test_room_of_a_cancelled_request_is_lent_until_all_its_threads_have_ended(
    num_cancels: int,
) -> None:
    async def run() -> None:
        pool, budget, turns = Pool(8), Budget(100), asyncio.Semaphore(NUM_TURNS)
        at_work: list[int] = []
        may_end = threading.Event()

        def work(chunk: int) -> None:
            at_work.append(chunk)
            may_end.wait(10)
            at_work.remove(chunk)

        async def one(chunk: int) -> None:
            async with turns, budget.hold(10):
                await pool.run(work, chunk)

        request = asyncio.create_task(gather_or_cancel(one(chunk) for chunk in range(NUM_CHUNKS)))
        ends_at = time.monotonic() + 10
        while len(at_work) < NUM_TURNS:
            assert time.monotonic() < ends_at
            await asyncio.sleep(0.001)
        for _ in range(num_cancels):
            request.cancel()
            await asyncio.sleep(0.02)
            assert not request.done()
            assert (len(at_work), budget.lent) == (NUM_TURNS, 10 * NUM_TURNS)
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert (at_work, budget.lent) == ([], 0)
        pool.close()

    asyncio.run(run())


def test_when_one_fails_the_others_are_cancelled_and_waited_for() -> None:
    async def run() -> None:
        pool = Pool(2)
        has_begun, has_ended = threading.Event(), threading.Event()

        def work() -> None:
            has_begun.set()
            time.sleep(0.05)
            has_ended.set()

        def fail() -> None:
            has_begun.wait(10)
            raise ValueError("one failed")

        with pytest.raises(ValueError, match="one failed"):
            await gather_or_cancel([pool.run(work), pool.run(fail)])
        assert has_ended.is_set()
        pool.close()

    asyncio.run(run())
