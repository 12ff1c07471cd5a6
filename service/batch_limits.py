"""How many images or grids run together."""

from functools import lru_cache

from service.costs import CostModel
from service.passes import REVEAL
from vqtok.manifest import Manifest
from vqtok.runtime.engine import Engine

ENCODE_ALONE = "encode_alone"
"""The kind of work that is "encode" in batches of one."""

RECENT_SHAPES = 256
"""Limits of so many shapes are remembered: they are asked for several times a request."""

LONE_BATCH_IMAGES = 64
LONE_BATCH_SECONDS = 0.1


class BatchLimits:
    """Limits for images (H, W, 3), grids (h, w[, depth]) and rows of the prior, by kind and shape:
    `in_thread` for a runner, `on_loop` for the event loop, which runs nothing itself where it is 0.

    "encode_alone" is one image. On CPU `batch_pixels` bounds the others; on a GPU what warm-up has
    proven to fit does: a full batch of native images.

    An engine of one runner on a CPU has a second way into it: the event loop runs what takes at
    most `loop_seconds`. Small requests then do not wait for the thread, and its batches may be
    larger, up to `LONE_BATCH_IMAGES` in `LONE_BATCH_SECONDS`: with each batch, model and service
    throw one another out of the processor's caches.
    """

    def __init__(
        self,
        engine: Engine,
        manifest: Manifest,
        costs: CostModel,
        *,
        batch_pixels: int,
        loop_seconds: float,
    ) -> None:
        self._max_images = engine.max_batch_images
        self._factor = manifest.image.factor
        self._costs = costs
        self._loop_seconds = loop_seconds
        self._has_loop = engine.device == "cpu" and engine.num_runners == 1 and loop_seconds > 0
        self._pixels = batch_pixels
        if engine.device != "cpu":
            height, width = manifest.image.native_size
            self._pixels = max(batch_pixels, engine.max_batch_images * height * width)
        self.in_thread = lru_cache(RECENT_SHAPES)(self._in_thread)
        self.on_loop = lru_cache(RECENT_SHAPES)(self._on_loop)

    def _in_thread(self, kind: str, shape: tuple[int, ...]) -> int:
        if kind == ENCODE_ALONE:
            return 1
        if kind == REVEAL:
            return self._max_images
        most = self._max_images
        if self._has_loop:
            in_time = self._within(LONE_BATCH_SECONDS, kind, shape)
            most = max(most, min(LONE_BATCH_IMAGES, in_time))
        return max(1, min(most, self._pixels // self._area(kind, shape)))

    def _on_loop(self, kind: str, shape: tuple[int, ...]) -> int:
        if not self._has_loop:
            return 0
        return min(self._in_thread(kind, shape), self._within(self._loop_seconds, kind, shape))

    def _within(self, seconds: float, kind: str, shape: tuple[int, ...]) -> int:
        """How many take at most so long together."""
        if kind == REVEAL:
            return int(seconds / self._costs.seconds("sample", 1))
        work = "decode" if kind == "decode" else "encode"
        return int(seconds / self._costs.seconds(work, self._area(kind, shape)))

    def _area(self, kind: str, shape: tuple[int, ...]) -> int:
        """Pixels of an image, or of the image that a grid stands for."""
        return shape[0] * shape[1] * (self._factor**2 if kind == "decode" else 1)
