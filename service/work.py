"""What one request has in the queue: it cuts its images into entries and puts the answers back."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.batch_limits import ENCODE_ALONE
from service.call import Call
from service.entry import Answer, Entry
from service.fair_queue import Turns
from service.model import Model
from service.passes import REVEAL
from service.pool import Pool
from service.rows import Row, Rows, itself
from vqtok.errors import TooLarge, VqtokError
from vqtok.runtime.tiles import Tile, paste, pixels_of, plan_decode, plan_encode

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


async def gather_or_cancel(coroutines: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """All results in order. When one fails the others are cancelled, and its error is raised."""
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            # Whoever cancels this has cancelled them: each is told once.
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def gather_arriving(
    items: AsyncGenerator[ItemT],
    work: Callable[[ItemT], Coroutine[Any, Any, ResultT]],
    turns: asyncio.Semaphore,
) -> list[ResultT]:
    """What `work` gives for each item, in order; it begins with one as soon as it arrives. Each
    holds one of the `turns`, and no more items are asked for than get one. When one fails or no
    more can arrive, the others are cancelled, and that error is raised.
    """
    tasks: list[asyncio.Task[ResultT]] = []
    try:
        async with contextlib.aclosing(items), asyncio.TaskGroup() as group:
            async for item in items:
                await turns.acquire()
                tasks.append(group.create_task(work(item)))
                tasks[-1].add_done_callback(lambda _: turns.release())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


class Work:
    """The queued work of one request. Its entries take turns with those of other requests. With
    `strict` every image is encoded alone, so that its tokens cannot depend on its company.
    """

    def __init__(
        self, model: Model, pool: Pool, call: Call, tile_pixels: int, *, strict: bool = False
    ) -> None:
        self._model = model
        self._pool = pool
        self._call = call
        self._tile_pixels = tile_pixels
        self.strict = strict
        self._turns: Turns[Entry] = Turns()
        self._first_submitted: float | None = None
        self._first_started: float | None = None
        self._last_finished = 0.0

    def pixels(self, kind: str, shape: Sequence[int]) -> int:
        """Pixels that the model computes for one item, halos included. `kind` "encode" has images
        (H, W, 3), "decode" grids (h, w[, depth]).

        Raises:
            TooLarge: the item would need tiles, and the model cannot run in tiles.
        """
        tiles = self._tiles(kind, shape)
        if not tiles:
            return self._area(kind, shape)
        factor = 1 if kind == "encode" else self._model.manifest.image.factor
        return sum(pixels_of(tile, factor) for tile in tiles)

    def amount(self, kind: str, shape: Sequence[int]) -> int:
        """As `pixels`; of the kind "sample", rows of the prior that the bits of a grid take: as
        many as there are groups for the native one, and none for others.
        """
        if kind != "sample":
            return self.pixels(kind, shape)
        prior = self._model.prior
        return int(prior.groups.max()) + 1 if tuple(shape) == prior.grid else 0

    def rows_per_entry(self, kind: str, shape: Sequence[int]) -> int:
        """How many items of a shape go into one entry of the queue."""
        return self._model.batcher.max_rows(kind, tuple(shape))

    async def run(self, kind: str, rows: NDArray[Any]) -> Rows:
        """What the model gives for rows of one shape, in order; an item above `tile_pixels` runs
        tile by tile. "encode" gives tokens, margins and
        what else the encoder gives, "decode" (pixels,).
        """
        tiles = self._tiles(kind, rows.shape[1:])
        if not tiles:
            return (await self._submit(kind, rows)).value
        return Rows.of([await self._run_tiles(kind, item, tiles) for item in rows])

    async def run_whole(
        self,
        shape: tuple[int, ...],
        num_rows: int,
        load: Callable[[], NDArray[Any]],
        finish: Callable[[Rows], ResultT],
    ) -> ResultT:
        """What `finish` makes of the encoded rows of one shape that `load` gives, all of it in a
        runner's thread, in one batch with what others have queued.
        """
        entry = Entry(self._encoding, shape, num_rows, load, finish, self._call.deadline)
        return await self._finished(self._model.batcher.queue(self._turns, entry))

    async def run_array(
        self, images: NDArray[np.uint8], finish: Callable[[Rows], ResultT]
    ) -> ResultT:
        """As `run_whole`, of images that need no loading and no tiles, however many."""
        deadline = self._call.deadline
        return await self._finished(
            self._model.batcher.submit(self._turns, self._encoding, images, deadline, finish)
        )

    async def reveal(self, rows: NDArray[np.int32], finish: Callable[[Rows], ResultT]) -> ResultT:
        """What `finish` makes, in a runner's thread, of the prior's logits for packed rows."""
        return (await self._submit(REVEAL, rows, finish)).value

    async def _finished(self, answered: asyncio.Future[Answer[ResultT]]) -> ResultT:
        submitted = time.monotonic()
        answer = await answered
        times = answer.times
        self._call.add("queue", submitted, times.taken)
        self._call.add("decode", times.taken, times.loaded)
        self._call.add("model", times.loaded, times.modelled)
        self._call.add("serialize", times.modelled, times.finished)
        return answer.value

    @property
    def _encoding(self) -> str:
        return ENCODE_ALONE if self.strict else "encode"

    def note_times(self) -> None:
        """Tell the call how long its entries waited, and how long they then took."""
        if self._first_submitted is not None and self._first_started is not None:
            self._call.add("queue", self._first_submitted, self._first_started)
            self._call.add("model", self._first_started, self._last_finished)

    def needs_tiles(self, kind: str, shape: Sequence[int]) -> bool:
        """Whether an item is too large to run as a whole."""
        return self._area(kind, shape) > self._tile_pixels

    def _tiles(self, kind: str, shape: Sequence[int]) -> tuple[Tile, ...]:
        if not self.needs_tiles(kind, shape):
            return ()
        manifest = self._model.manifest
        if not manifest.tileable:
            raise TooLarge(
                f"The model {manifest.full_name} cannot run in tiles, so an image may have at most "
                f"{self._tile_pixels} pixels (tile_pixels).",
                limit=self._tile_pixels,
                setting="tile_pixels",
            )
        factor, size = manifest.image.factor, (shape[0], shape[1])
        if kind == "encode":
            return plan_encode(size, factor, manifest.encoder_halo, self._tile_pixels)
        return plan_decode(size, factor, manifest.decoder_halo, self._tile_pixels)

    def _area(self, kind: str, shape: Sequence[int]) -> int:
        cell = self._model.manifest.image.factor**2 if kind == "decode" else 1
        return shape[0] * shape[1] * cell

    async def _run_tiles(self, kind: str, item: NDArray[Any], tiles: Sequence[Tile]) -> Row:
        answers = await gather_or_cancel(
            self._submit(kind, item[tile.source][None]) for tile in tiles
        )
        return await self._pool.run(_put_together, tiles, [each.value[0] for each in answers])

    async def _submit(
        self, kind: str, rows: NDArray[Any], finish: Callable[[Rows], Any] = itself
    ) -> Answer[Any]:
        if self._first_submitted is None:
            self._first_submitted = time.monotonic()
        queued = self._encoding if kind == "encode" else kind
        deadline = self._call.deadline
        answer = await self._model.batcher.submit(self._turns, queued, rows, deadline, finish)
        if self._first_started is None or answer.times.taken < self._first_started:
            self._first_started = answer.times.taken
        self._last_finished = time.monotonic()
        return answer


def _put_together(tiles: Sequence[Tile], rows: Sequence[Row]) -> Row:
    wholes: list[NDArray[Any]] = []
    height, width = (axis.stop for axis in tiles[-1].target)
    for tile, parts in zip(tiles, rows, strict=True):
        if isinstance(parts, VqtokError):
            return parts
        if not wholes:
            wholes = [np.empty((height, width, *p.shape[2:]), p.dtype) for p in parts]
        for whole, part in zip(wholes, parts, strict=True):
            paste(whole, part, tile)
    return tuple(wholes)
