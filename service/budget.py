"""Room for decoded pixels, shared by all requests: whoever finds none waits for its turn."""

import asyncio
from collections import deque


class Budget:
    """An amount that is lent in parts, first come first served. Belongs to one event loop."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.lent = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def hold(self, amount: int) -> "Held":
        """Hold `amount` inside an `async with`; more than there is in all counts as all."""
        return Held(self, min(amount, self.total))

    def give_back(self, amount: int) -> None:
        """Return what was taken; whoever waits for it gets it."""
        self.lent -= amount
        self._lend()

    async def take(self, amount: int) -> None:
        """Wait for `amount`, which is at most the total."""
        if not self._waiting and self.lent + amount <= self.total:
            self.lent += amount
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            # Cancelled after its turn had come: what was lent goes back.
            if turn.done() and not turn.cancelled():
                self.lent -= amount
            self._lend()
            raise

    def _lend(self) -> None:
        while self._waiting:
            amount, turn = self._waiting[0]
            if not turn.cancelled():
                if self.lent + amount > self.total:
                    return
                self.lent += amount
                turn.set_result(None)
            self._waiting.popleft()


class Held:
    """An amount that is held inside an `async with`."""

    def __init__(self, budget: Budget, amount: int) -> None:
        self._budget = budget
        self._amount = amount

    async def __aenter__(self) -> None:
        await self._budget.take(self._amount)

    async def __aexit__(self, *_: object) -> None:
        self._budget.give_back(self._amount)
