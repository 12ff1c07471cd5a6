"""One admitted request at work: its images go through in chunks, several chunks at a time."""

# Else those of the functions inside others are evaluated on every request.
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from service.call import Call, call_of
from service.intake import Chunk, ImageOptions, Loaded, Plan, is_ready, load_chunk
from service.limits import Size, named
from service.model import Model
from service.rows import Rows
from service.state import Service, service_of
from service.token_cache import keys_of
from service.work import Work, gather_arriving, gather_or_cancel
from vqtok.errors import VqtokError

ResultT = TypeVar("ResultT")


LIGHT_PIXELS = 2**16
"""To decode more holds up a runner, or the event loop, for some milliseconds."""


@dataclass(eq=False)
class Job:
    """What the steps of one request share. `per_item` says that an item fails alone."""

    service: Service
    model: Model
    call: Call
    work: Work
    per_item: bool = False

    @cached_property
    def turns(self) -> asyncio.Semaphore:
        """One is to be held while a part of the request is at work: enough to keep every runner
        busy while the next parts are decoded.
        """
        return asyncio.Semaphore(2 * self.model.engine.num_runners)

    @staticmethod
    def of(request: Request, model: Model, *, per_item: bool = False, strict: bool = False) -> Job:
        """The job of a request."""
        service, call = service_of(request), call_of(request)
        work = Work(model, service.pool, call, service.settings.tile_pixels, strict=strict)
        return Job(service, model, call, work, per_item)

    def reserve(self, **amounts: int) -> None:
        """Gate two, for pixels to "encode" and to "decode" and samples to "sample", all that the
        request takes. Safe in any thread.

        Raises:
            TooLarge: never admissible. Overloaded: not now.
        """
        self.require(sum(self.model.costs.seconds(*each) for each in amounts.items()))

    def require(self, seconds: float) -> None:
        """Gate two, for all of the device time that the request takes. Safe in any thread.

        Raises:
            TooLarge: never admissible. Overloaded: not now.
        """
        if self.call.reservation is not None:
            self.call.reservation.require_work(seconds)

    def expect(self, seconds: float) -> bool:
        """Reserve the device time that the request seems to take, if that fits now."""
        reservation = self.call.reservation
        return reservation is None or reservation.expect_work(seconds)

    @property
    def announced_bytes(self) -> int:
        """Bytes of the whole body; the most that are allowed while it is not known."""
        reservation = self.call.reservation
        return (
            self.service.settings.max_body_bytes if reservation is None else reservation.num_bytes
        )

    def seconds_of(self, images: Iterable[tuple[Size, int]], *kinds: str) -> float:
        """Device time of the given work on images: pairs of a planned size and a number. Of the
        kind "sample" is what the prior makes of their tokens.
        """
        manifest = self.model.manifest
        amounts = dict.fromkeys(kinds, 0)
        for size, count in images:
            for kind in kinds:
                shape = size if kind == "encode" else manifest.grid_of(*size)
                amounts[kind] += count * self.work.amount(kind, shape)
        return sum(self.model.costs.seconds(*each) for each in amounts.items())

    def is_light(self, plan: Plan, options: ImageOptions) -> bool:
        """Whether a runner may do all of a request: it is one chunk, small or ready as it is, and
        nothing of it may be in the cache.
        """
        if not self.model.runs_whole_requests or self.service.cache is not None:
            return False
        if len(plan.chunks) != 1 or plan.loaded is not None or plan.arriving is not None:
            return False
        (chunk,) = plan.chunks
        if self.work.needs_tiles("encode", chunk.shape):
            return False
        if is_ready(chunk, options):
            return True
        if chunk.num_source_pixels > LIGHT_PIXELS:
            return False
        is_too_many = self.work.strict and len(chunk.indices) > 1
        return not is_too_many and chunk.num_pixels <= self.service.settings.batch_pixels

    async def run_light(
        self, plan: Plan, options: ImageOptions, finish: Callable[[Loaded, Rows], ResultT]
    ) -> ResultT:
        """Load and encode the only chunk of a plan, and `finish` its rows, all where the model
        runs.

        Raises:
            VqtokError: an image that failed, unless `per_item`; what `finish` raises.
        """
        (chunk,) = plan.chunks
        found: list[Loaded] = []

        def load() -> NDArray[np.uint8]:
            found.append(load_chunk(chunk, options, plan.num_items))
            return found[0].rows

        def finish_rows(rows: Rows) -> ResultT:
            (loaded,) = found
            self.check(rows, loaded.indices, plan.num_items)
            return finish(loaded, rows)

        async with self.service.pixels.hold(chunk.num_pixels):
            if is_ready(chunk, options):
                return await self.work.run_array(load(), finish_rows)
            shape = (*chunk.shape, 3)
            return await self.work.run_whole(shape, len(chunk.indices), load, finish_rows)

    async def encode_chunks(
        self,
        plan: Plan,
        options: ImageOptions,
        finish: Callable[[Loaded, Rows], Awaitable[ResultT]],
    ) -> list[ResultT]:
        """Load and encode every chunk; what `finish` makes of each, in order.

        Raises:
            VqtokError: an image that failed, unless `per_item`.
        """

        async def one(chunk: Chunk) -> ResultT:
            async with self.service.pixels.hold(chunk.num_pixels):
                loaded = plan.loaded or await self._load(chunk, plan, options)
                rows = await self._encode(loaded.rows) if loaded.indices else Rows.of(())
                self.check(rows, loaded.indices, plan.num_items)
                return await finish(loaded, rows)

        async def in_turn(chunk: Chunk) -> ResultT:
            async with self.turns:
                return await one(chunk)

        if plan.arriving is None:
            return await gather_or_cancel(in_turn(chunk) for chunk in plan.chunks)
        return await gather_arriving(plan.arriving, one, self.turns)

    async def _load(self, chunk: Chunk, plan: Plan, options: ImageOptions) -> Loaded:
        with self.call.stage("decode"):
            return await self.service.pool.run(load_chunk, chunk, options, plan.num_items)

    async def _encode(self, images: NDArray[np.uint8]) -> Rows:
        cache = self.service.cache
        if cache is None:
            return await self.work.run("encode", images)

        async def encode(indices: list[int]) -> Rows:
            some = images if len(indices) == len(images) else images[indices]
            return await self.work.run("encode", some)

        tokenizer_id = self.model.manifest.tokenizer_id
        origin = f"{tokenizer_id} alone" if self.work.strict else tokenizer_id
        keys = await self.service.pool.run(keys_of, images, origin)
        rows, origins = await cache.rows(keys, encode)
        self.call.origins += origins
        return Rows.of(rows)

    async def decode_chunks(
        self,
        chunks: Sequence[tuple[list[int], NDArray[np.int32]]],
        num_items: int,
        finish: Callable[[list[int], Rows], Awaitable[Sequence[ResultT | VqtokError]]],
    ) -> dict[int, ResultT | VqtokError]:
        """Decode chunks of grids (their numbers, int32 (n, *grid)); `finish` makes results of
        their rows. Results by number.

        Raises:
            VqtokError: a grid that failed, unless `per_item`.
        """

        async def one(
            indices: list[int], grids: NDArray[np.int32]
        ) -> Sequence[tuple[int, ResultT | VqtokError]]:
            cell = self.model.manifest.image.factor**2
            area = len(grids) * grids.shape[1] * grids.shape[2] * cell
            async with self.turns, self.service.pixels.hold(area):
                rows = await self.work.run("decode", grids)
                self.check(rows, indices, num_items)
                results = await finish(indices, rows)
            return list(zip(indices, results, strict=True))

        parts = await gather_or_cancel(one(*chunk) for chunk in chunks)
        return {index: result for part in parts for index, result in part}

    def check(self, rows: Rows, indices: Sequence[int], num_items: int) -> None:
        """Raise the first failed row's error, unless items fail alone."""
        if self.per_item or rows.arrays is not None:
            return
        for index, row in zip(indices, rows, strict=True):
            if isinstance(row, VqtokError):
                raise named(row, index, num_items)


def chunks_of(
    grids: Mapping[int, NDArray[Any]], work: Work
) -> list[tuple[list[int], NDArray[np.int32]]]:
    """Grids of tokens by their numbers, put together by shape for the decoder. Blocking."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, grid in grids.items():
        by_shape.setdefault(grid.shape, []).append(index)
    chunks: list[tuple[list[int], NDArray[np.int32]]] = []
    for shape, indices in by_shape.items():
        step = work.rows_per_entry("decode", shape)
        for start in range(0, len(indices), step):
            part = indices[start : start + step]
            chunks.append((part, np.stack([grids[index] for index in part]).astype(np.int32)))
    return chunks
