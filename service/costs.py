"""What work costs, in seconds of one runner, measured when the service warms up."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.manifest import Manifest
from vqtok.runtime.engine import Engine

REPEATS = 3
LONG_ENOUGH = 0.1
"""Seconds of measuring after which nothing is repeated: what runs that long varies little, and
readiness waits for it.
"""


class CostModel:
    """Seconds per pixel for "encode" and "decode", per row of the prior for "sample"."""

    def __init__(self, rates: Mapping[str, float]) -> None:
        self.rates = dict(rates)

    def seconds(self, kind: str, amount: int) -> float:
        """Device time of `amount` pixels (or rows of the prior) of a kind of work."""
        return self.rates[kind] * amount


def measure(engine: Engine, manifest: Manifest, draw: Callable[[int], int]) -> CostModel:
    """Run each kind of work a few times at the native size, one image and a full batch.

    `draw(n)` draws n samples and gives how many rows of the prior that took. This is the warm-up
    too: it runs every shape that a request of native images can ask for.
    """
    height, width = manifest.image.native_size
    count = engine.max_batch_images
    images: NDArray[np.uint8] = (
        np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(np.uint8)
    )
    tokens = engine.encode(images[:1]).tokens
    engine.decode(tokens)
    tokens = engine.encode(images).tokens
    pixels = count * height * width
    return CostModel(
        {
            "encode": _best(lambda: engine.encode(images)) / pixels,
            "decode": _best(lambda: engine.decode(tokens)) / pixels,
            "sample": _best(lambda: draw(count)) / draw(1) / count,
        }
    )


def _best(run: Callable[[], Any]) -> float:
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < LONG_ENOUGH:
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
