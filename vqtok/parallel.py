"""Run work on a pool in order, without preparing all of it at once."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    pool: Executor, run: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Results in the order of `items`, of which at most `ahead` are in work or waiting.

    The first exception, of `items` or of `run`, ends the iteration; what has not begun is
    cancelled.
    """
    submitted = (pool.submit(run, item) for item in items)
    waiting: list[Future[Result]] = []
    try:
        waiting.extend(islice(submitted, ahead))
        while waiting:
            yield waiting.pop(0).result()
            waiting.extend(islice(submitted, 1))
    finally:
        for future in waiting:
            future.cancel()
