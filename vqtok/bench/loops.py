"""Requests sent by plan, and when each was answered."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from vqtok.bench.connections import Reply, Request

SPIN_SECONDS = 0.002
"""Timers come up to a millisecond late; the last bit of a pause is waited for in turns."""

Send = Callable[[Request], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Shot:
    """One request. Times are seconds since the start: when it was to be sent, was sent, and was
    answered in full; `status` 0 is no answer, for `reason`.
    """

    scheduled: float
    sent: float
    done: float
    status: int
    num_images: int
    reason: str = ""

    @property
    def latency(self) -> float:
        """From when it was to be sent, so that a delay of the sender is not left out."""
        return self.done - self.scheduled


async def open_loop(
    send: Send, requests: Sequence[Request], rate: float, seconds: float, seed: int
) -> list[Shot]:
    """Poisson arrivals of `rate` requests a second for `seconds`; returns when all are answered."""
    drawn = random.Random(seed)
    start = time.perf_counter()
    tasks: list[asyncio.Task[Shot]] = []
    scheduled = drawn.expovariate(rate)
    while scheduled < seconds:
        await _until(start + scheduled)
        request = requests[len(tasks) % len(requests)]
        tasks.append(asyncio.create_task(_shoot(send, request, start, scheduled)))
        scheduled += drawn.expovariate(rate)
    return list(await asyncio.gather(*tasks))


async def closed_loop(
    send: Send, requests: Sequence[Request], concurrency: int, seconds: float
) -> list[Shot]:
    """`concurrency` callers, each with one request at a time, who send their last before
    `seconds` are over.
    """
    start = time.perf_counter()
    shots: list[Shot] = []
    number = 0

    async def caller() -> None:
        nonlocal number
        while (now := time.perf_counter() - start) < seconds:
            request = requests[number % len(requests)]
            number += 1
            shots.append(await _shoot(send, request, start, now))

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return shots


async def _shoot(send: Send, request: Request, start: float, scheduled: float) -> Shot:
    sent = time.perf_counter() - start
    reply = await send(request)
    done = time.perf_counter() - start
    return Shot(scheduled, sent, done, reply.status, request.num_images, reply.reason)


async def _until(moment: float) -> None:
    pause = moment - time.perf_counter() - SPIN_SECONDS
    if pause > 0:
        await asyncio.sleep(pause)
    while time.perf_counter() < moment:  # noqa: ASYNC110 - no event says that time has passed
        await asyncio.sleep(0)
