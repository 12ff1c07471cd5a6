"""Room for decoded pixels: lent in order, given back always."""

import asyncio

import pytest

from service.budget import Budget


def test_who_finds_no_room_waits_for_its_turn() -> None:
    async def run() -> None:
        budget = Budget(10)
        order: list[str] = []

        async def use(name: str, amount: int) -> None:
            async with budget.hold(amount):
                order.append(name)
                assert budget.lent <= 10
                await asyncio.sleep(0.005)

        await asyncio.gather(use("a", 6), use("b", 6), use("c", 3), use("d", 100))
        assert order == ["a", "b", "c", "d"]
        assert budget.lent == 0

    asyncio.run(run())


def test_a_cancelled_waiter_takes_nothing_with_it() -> None:
    async def run() -> None:
        budget = Budget(10)

        async def use(amount: int) -> None:
            async with budget.hold(amount):
                await asyncio.sleep(10)

        holder, waiter = asyncio.create_task(use(8)), asyncio.create_task(use(8))
        behind = asyncio.create_task(use(2))
        await asyncio.sleep(0.01)
        assert budget.lent == 8
        waiter.cancel()
        await asyncio.sleep(0.01)
        assert budget.lent == 10
        for task in (holder, behind):
            task.cancel()
        await asyncio.gather(holder, waiter, behind, return_exceptions=True)
        assert budget.lent == 0

    asyncio.run(run())


def test_room_lent_in_the_moment_of_cancelling_comes_back() -> None:
    async def run() -> None:
        budget = Budget(10)
        async with budget.hold(10):
            waiter = asyncio.create_task(_hold_shortly(budget))
            await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert budget.lent == 0

    asyncio.run(run())


async def _hold_shortly(budget: Budget) -> None:
    async with budget.hold(5):
        await asyncio.sleep(0)
