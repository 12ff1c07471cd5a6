"""A model on the fake engine, and `python -m tests.service.fake_model` to serve it in a process.

The fake process takes the service's flags and four of its own: `--delay SECONDS`
(every batch, once the service is ready), `--open-delay SECONDS` (before that),
`--runners N`, and `--cost SECONDS` that a pixel is said to take.
Its threads run the model, not the event loop, whose answers are looked at meanwhile.
An image whose first pixel is pure red makes the engine fail.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.app import OpenModel
from service.batch import Observer
from service.costs import CostModel
from service.model import Model, Report, prove_model
from service.run import run
from service.settings import Settings, read_settings
from vqtok.bundle import Bundle
from vqtok.reference import Reference
from vqtok.runtime.engine import Encoded
from vqtok.runtime.fake import FakeEngine, fake_manifest

KINDS = ("encode", "decode", "sample")
POISON = (255, 0, 0)


def is_poison(item: NDArray[Any]) -> bool:
    """Whether the fake engine fails on an image (H, W, 3); never on a grid."""
    return item.ndim == 3 and tuple(item[0, 0]) == POISON


class LateEngine(FakeEngine):
    """A fake engine that is quick until it is told to be slow, so that warm-up takes no time."""

    seconds = 0.0

    def encode(self, images: NDArray[np.uint8]) -> Encoded:
        time.sleep(self.seconds)
        return super().encode(images)

    def decode(self, tokens: NDArray[np.int32]) -> NDArray[np.uint8]:
        time.sleep(self.seconds)
        return super().decode(tokens)


def fake_reference(engine: FakeEngine, size: int = 16, codes: int = 256) -> Reference:
    """What a bundle on this engine would remember."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (size, size, 3)).astype(np.uint8)
    encoded = engine.encode(image[None])
    grid = encoded.tokens.shape[1:]
    return Reference(
        usage=np.ones(codes, np.int64),
        position_counts=np.ones((*grid, codes), np.uint32),
        golden_image=image,
        golden_tokens=encoded.tokens[0],
        golden_margins=encoded.margins[0],
        golden_reconstruction=engine.decode(encoded.tokens)[0],
    )


def open_fake(
    delay: float = 0.0,
    open_delay: float = 0.0,
    runners: int = 1,
    cost: float | None = None,
    **changes: Any,
) -> OpenModel:
    """Opens a fake model; `cost` replaces the measured seconds per pixel and per sample, `changes`
    are fields of its manifest.
    """

    def open_model(settings: Settings, observer: Observer, report: Report) -> Model:
        time.sleep(open_delay)
        manifest = fake_manifest(**changes)
        engine = LateEngine(manifest, fail_on=is_poison, num_runners=runners)
        codebook = np.random.default_rng(1).normal(size=(256, 2)).astype(np.float32)
        model = prove_model(
            Bundle(Path("fake"), manifest, codebook, fake_reference(engine)),
            engine=engine,
            settings=settings,
            observer=observer,
            report=report,
        )
        engine.seconds = delay
        return (
            model if cost is None else replace(model, costs=CostModel(dict.fromkeys(KINDS, cost)))
        )

    return open_model


def main() -> int:
    """Serve the fake model."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--open-delay", type=float, default=0.0)
    parser.add_argument("--runners", type=int, default=1)
    parser.add_argument("--cost", type=float)
    own, flags = parser.parse_known_args()
    open_model = open_fake(own.delay, own.open_delay, own.runners, own.cost)
    return run(read_settings(["--loop-seconds", "0", *flags]), open_model)


if __name__ == "__main__":
    sys.exit(main())
