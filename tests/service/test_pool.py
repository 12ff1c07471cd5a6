"""The thread pool: what is cancelled before it began never runs, and what runs is waited for."""

import asyncio
import threading

import pytest

from service.pool import Pool


def test_cancelled_before_it_began_it_never_runs() -> None:
    async def run() -> None:
        pool = Pool(1)
        may_end = threading.Event()
        ran: list[str] = []
        first = asyncio.create_task(pool.run(may_end.wait, 10))
        second = asyncio.create_task(pool.run(ran.append, "second"))
        await asyncio.sleep(0.01)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        may_end.set()
        assert await first
        await pool.run(ran.append, "third")
        assert ran == ["third"]
        pool.close()

    asyncio.run(run())


@pytest.mark.parametrize("num_cancels", [1, 3])
def test_what_runs_already_is_waited_for_however_often_it_is_cancelled(num_cancels: int) -> None:
    async def run() -> None:
        pool = Pool(1)
        has_begun, may_end = threading.Event(), threading.Event()

        def work() -> None:
            has_begun.set()
            may_end.wait(10)

        task = asyncio.create_task(pool.run(work))
        await asyncio.to_thread(has_begun.wait, 10)
        for _ in range(num_cancels):
            task.cancel()
            await asyncio.sleep(0.05)
            assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        pool.close()

    asyncio.run(run())
