"""The thread pool: what is cancelled before it began never runs, and what runs is waited for."""

import asyncio
import threading
import time

import pytest

from service.pool import Pool


def threads_beside(others: set[threading.Thread]) -> int:
    """How many there are that were not there before; those of other tests may end meanwhile."""
    return len({*threading.enumerate()} - others)


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


def test_all_threads_are_there_from_the_start_and_no_more_ever() -> None:
    async def run() -> None:
        before = {*threading.enumerate()}
        pool = Pool(5)
        assert threads_beside(before) == 5
        found = await asyncio.gather(*(pool.run(threading.get_ident) for _ in range(50)))
        assert threads_beside(before) == 5
        assert len(set(found)) <= 5
        pool.close()

    asyncio.run(run())


def test_a_pool_without_its_last_thread_lets_the_others_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, start = {*threading.enumerate()}, threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if threads_beside(before) >= 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        Pool(3)
    ends_at = time.monotonic() + 10
    while threads_beside(before) and time.monotonic() < ends_at:
        time.sleep(0.01)
    assert not threads_beside(before)


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
