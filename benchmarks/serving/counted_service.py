"""The service with a clock at its model.

python -m benchmarks.serving.counted_service CLOCK_FILE [flags of the service]
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.session_clock import SessionClock
from service.batch import Observer
from service.model import Model, Report, prove_model
from service.run import run
from service.settings import Settings, read_settings
from vqtok.bundle import Bundle
from vqtok.runtime.engine import Encoded, Engine
from vqtok.runtime.onnx import open_engine, prior_of


class CountedEngine:
    """An engine whose calls are counted."""

    def __init__(self, engine: Engine, clock: SessionClock) -> None:
        self.device = engine.device
        self.num_runners = engine.num_runners
        self.max_batch_images = engine.max_batch_images
        self._engine = engine
        self._clock = clock

    def encode(self, images: NDArray[np.uint8]) -> Encoded:
        with self._clock.counting():
            return self._engine.encode(images)

    def decode(self, tokens: NDArray[np.int32]) -> NDArray[np.uint8]:
        with self._clock.counting():
            return self._engine.decode(tokens)

    def close(self) -> None:
        self._engine.close()


def open_counted(
    clock: SessionClock, settings: Settings, observer: Observer, report: Report
) -> Model:
    """The model of the settings' bundle, counted."""
    bundle = Bundle.open(settings.bundle)
    engine = open_engine(bundle, settings.device, num_threads=settings.threads)
    return prove_model(
        bundle,
        engine=CountedEngine(engine, clock),
        prior=prior_of(bundle, bundle.reference, engine.device),
        settings=settings,
        observer=observer,
        report=report,
    )


if __name__ == "__main__":
    clock = SessionClock(Path(sys.argv[1]))
    sys.exit(run(read_settings(sys.argv[2:]), partial(open_counted, clock)))
