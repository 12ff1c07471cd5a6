"""Rows that are too many for one batch: parts of one answer, in turns with those of others."""

import asyncio
import time

import numpy as np
import pytest

from service.fair_queue import Turns
from service.rows import Rows
from tests.service.batching import batching, expected, image, poison, submit
from vqtok.errors import DeadlineExceeded, ModelFailure

LANES = pytest.mark.parametrize("rows_on_loop", [0, 2, 3])


@LANES
@pytest.mark.parametrize("runners", [1, 3])
def test_their_rows_come_back_in_order_and_a_failing_one_fails_alone(
    runners: int, rows_on_loop: int
) -> None:
    images = np.concatenate([*(image(seed) for seed in range(11)), poison(), image(12)])

    async def run() -> None:
        with batching(0.002, runners, 3, rows_on_loop) as (batcher, engine, _):
            rows: Rows = (await submit(batcher, images)).value
            assert max(engine.batch_sizes) == 3
            for index, row in enumerate(rows):
                if index == 11:
                    assert isinstance(row, ModelFailure)
                    continue
                assert isinstance(row, tuple)
                np.testing.assert_array_equal(row[0], expected(images[index : index + 1])[0])
            assert len(rows) == 13

    asyncio.run(run())


@LANES
def test_whoever_runs_the_last_part_finishes_the_whole_once(rows_on_loop: int) -> None:
    images = np.concatenate([image(seed) for seed in range(10)])
    finished: list[int] = []

    def finish(rows: Rows) -> int:
        finished.append(len(rows))
        return len(rows)

    async def run() -> None:
        with batching(0.01, 1, 3, rows_on_loop) as (batcher, _, notes):
            started = time.monotonic()
            answer = await batcher.submit(Turns(), "encode", images, started + 60, finish)
            assert answer.value == 10
            assert finished == [10]
            times = answer.times
            assert started <= times.taken <= times.loaded <= times.modelled <= times.finished
            assert times.modelled - times.taken > 0.8 * 0.01 * len(notes.batches)

    asyncio.run(run())


@LANES
def test_what_its_finish_raises_is_the_answer(rows_on_loop: int) -> None:
    def finish(rows: Rows) -> int:
        raise ValueError("it does not finish")

    async def run() -> None:
        with batching(0.0, 1, 3, rows_on_loop) as (batcher, _, _):
            images = np.concatenate([image(seed) for seed in range(10)])
            with pytest.raises(ValueError, match="does not finish"):
                await batcher.submit(Turns(), "encode", images, time.monotonic() + 60, finish)

    asyncio.run(run())


@LANES
def test_a_small_request_goes_between_them(rows_on_loop: int) -> None:
    async def run() -> None:
        with batching(0.01, 1, 1, min(rows_on_loop, 1)) as (batcher, engine, _):
            large = submit(batcher, np.concatenate([image(seed) for seed in range(20)]))
            await asyncio.sleep(0.015)
            await submit(batcher, image(99))
            assert len(engine.batch_sizes) < 8
            await large

    asyncio.run(run())


@LANES
def test_when_its_caller_leaves_the_rest_is_dropped(rows_on_loop: int) -> None:
    async def run() -> None:
        with batching(0.02, 1, 1, min(rows_on_loop, 1)) as (batcher, engine, notes):
            large = submit(batcher, np.concatenate([image(seed) for seed in range(20)]))
            await asyncio.sleep(0.03)
            large.cancel()
            await submit(batcher, image(99))
            assert notes.dropped["disconnect"] + len(engine.batch_sizes) == 21
            assert notes.dropped["disconnect"] > 10

    asyncio.run(run())


@LANES
def test_after_its_deadline_the_rest_does_not_run(rows_on_loop: int) -> None:
    async def run() -> None:
        with batching(0.02, 1, 1, min(rows_on_loop, 1)) as (batcher, engine, notes):
            images = np.concatenate([image(seed) for seed in range(20)])
            with pytest.raises(DeadlineExceeded):
                await submit(batcher, images, seconds=0.05)
            await submit(batcher, image(99))
            assert notes.dropped["deadline"] + len(engine.batch_sizes) == 21
            assert notes.dropped["deadline"] > 10

    asyncio.run(run())
