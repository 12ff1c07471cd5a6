"""Room for decoded pixels, shared by all requests: whoever finds none waits for its turn."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Budget:
    """An amount that is lent in parts, first come first served. Belongs to one event loop."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.lent = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, amount: int) -> AsyncGenerator[None]:
        """Hold `amount` inside the block; more than there is in all counts as all."""
        amount = min(amount, self.total)
        await self._take(amount)
        try:
            yield
        finally:
            self.lent -= amount
            self._lend()

    async def _take(self, amount: int) -> None:
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
