"""A batcher on the fake engine, and requests for it."""

import asyncio
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.batch import BatchReport
from service.batcher import Batcher
from service.entry import Answer, Entry
from service.fair_queue import Turns
from service.rows import Rows
from tests.service.fake_model import POISON, is_poison
from vqtok.runtime.fake import FakeEngine, fake_manifest


@dataclass
class Notes:
    batches: list[BatchReport] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def batch_done(self, report: BatchReport) -> None:
        self.batches.append(report)

    def rows_dropped(self, num_rows: int, reason: str) -> None:
        self.dropped[reason] += num_rows


@contextmanager
def batching(
    delay: float = 0.0, runners: int = 1, max_rows: int = 8, rows_on_loop: int = 0
) -> Generator[tuple[Batcher, FakeEngine, Notes]]:
    engine = FakeEngine(
        fake_manifest(), delay_seconds=delay, fail_on=is_poison, num_runners=runners
    )
    notes = Notes()

    def encode(images: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (engine.encode(images).tokens,)

    def decode(tokens: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (engine.decode(tokens),)

    batcher = Batcher(
        {"encode": encode, "decode": decode},
        max_rows=lambda kind, shape: max_rows,
        num_runners=runners,
        observer=notes,
        rows_on_loop=lambda kind, shape: rows_on_loop,
    )
    try:
        yield batcher, engine, notes
    finally:
        assert batcher.close()


def image(seed: int, side: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 200, (1, side, side, 3)).astype(np.uint8)


def poison() -> NDArray[np.uint8]:
    return np.full((1, 8, 8, 3), POISON, np.uint8)


def submit(
    batcher: Batcher, rows: NDArray[Any], flow: Turns[Entry] | None = None, seconds: float = 60.0
) -> asyncio.Future[Answer[Rows]]:
    return batcher.submit(flow or Turns(), "encode", rows, time.monotonic() + seconds)


def expected(rows: NDArray[np.uint8]) -> NDArray[np.int32]:
    return FakeEngine(fake_manifest()).encode(rows).tokens
