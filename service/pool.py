"""Threads for everything that would hold up the event loop: reading and writing images, parsing
and serialising bodies. How much they are given is bounded by admission.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from vqtok.runtime.cores import usable_cores

ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")

LEAST_THREADS = 8


class Pool:
    """A bounded set of threads; by default two per core and at least 8, so that a few slow images
    do not occupy them all.
    """

    def __init__(self, num_threads: int | None) -> None:
        count = num_threads or max(LEAST_THREADS, 2 * usable_cores())
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="image")
        # Each keeps some memory of its own, which shall not come as late as the first busy hour.
        all_there = threading.Barrier(count)
        try:
            for _ in range(count):
                self._threads.submit(all_there.wait)
        except BaseException:
            all_there.abort()
            raise

    async def run(
        self,
        function: Callable[ParamsT, ResultT],
        *args: ParamsT.args,
        **kwargs: ParamsT.kwargs,
    ) -> ResultT:
        """The function's result, computed in a thread.

        Cancelled before it began, it never runs. A thread cannot be stopped in the middle: then
        this waits for it, however often it is cancelled, so that whoever holds room for its memory
        holds it until it is free.
        """
        in_thread = self._threads.submit(function, *args, **kwargs)
        done = asyncio.wrap_future(in_thread)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            in_thread.cancel()
            while not in_thread.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({done})
            raise

    def close(self) -> None:
        """Take nothing more; what runs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
