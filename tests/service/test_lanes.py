"""What runs on the event loop, and what in threads."""

import asyncio
import threading
import time
from typing import Any

import numpy as np

from service.batcher import Batcher
from service.entry import Entry
from service.fair_queue import Turns
from tests.service.batching import batching, image, submit


def test_a_batch_larger_than_the_loop_may_run_goes_to_a_thread() -> None:
    threads: list[str] = []

    async def run() -> None:
        with batching(rows_on_loop=2, max_rows=8) as (batcher, engine, _):
            encode = engine.encode

            def noted(images: np.ndarray) -> object:
                threads.append(threading.current_thread().name)
                return encode(images)

            engine.encode = noted  # type: ignore[method-assign]
            await submit(batcher, image(0))
            await submit(batcher, np.concatenate([image(0)] * 2))
            engine_on_loop = [threading.main_thread().name] * 2
            assert threads == engine_on_loop
            await batcher.queue(Turns(), _self_loading(3))
            assert threads[2:] == ["runner-0"]

    asyncio.run(run())


def _self_loading(num_rows: int) -> Entry:
    rows = np.concatenate([image(seed) for seed in range(num_rows)])
    return Entry("encode", rows.shape[1:], num_rows, lambda: rows, list, time.monotonic() + 9)


def test_answers_go_out_and_arrivals_come_in_between_two_batches() -> None:
    async def run() -> None:
        with batching(delay=0.02, max_rows=2, rows_on_loop=2) as (batcher, engine, _):
            seen: list[int] = []

            async def caller(seed: int) -> None:
                await submit(batcher, image(seed))
                seen.append(len(engine.batch_sizes))

            await asyncio.gather(*[caller(seed) for seed in range(6)])
            # Whoever is answered by a batch goes on before the next one runs.
            assert seen == [1, 1, 2, 2, 3, 3]

    asyncio.run(run())


def test_what_arrives_while_a_batch_runs_runs_together_next() -> None:
    async def run() -> None:
        with batching(delay=0.02, max_rows=8, rows_on_loop=8) as (batcher, engine, _):
            loop = asyncio.get_running_loop()
            arrived = [loop.create_future() for _ in range(5)]
            first = submit(batcher, image(0))
            for seed, each in enumerate(arrived, start=1):
                # As sockets that become readable during the first batch.
                loop.call_later(0.005, _arrive, each, batcher, seed)
            await first
            await asyncio.gather(*[await each for each in arrived])
            assert engine.batch_sizes == [1, 5]

    asyncio.run(run())


def _arrive(arrived: asyncio.Future[Any], batcher: Batcher, seed: int) -> None:
    arrived.set_result(submit(batcher, image(seed)))
