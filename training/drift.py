"""What drift comes to in held-out images, for a bundle's reference."""

import logging
from collections.abc import Iterable

import numpy as np

from training.data import Part
from training.data.batches import whole_batches
from training.progress import with_bar
from training.reference import BATCH
from vqtok.bundle import Reference
from vqtok.runtime.engine import Engine
from vqtok.statistics import resample_null
from vqtok.statistics.resampling import FEWEST_IMAGES

log = logging.getLogger(__name__)

MOST_IMAGES = 5_000


def with_drift_null(engine: Engine, reference: Reference, test: Part) -> Reference:
    """The reference with the null distribution of drift from the first half of the test images, at
    most 5,000; the other half is left to measure it by. Unchanged where there are too few.
    """
    kept = min(MOST_IMAGES, len(test) // 2)
    if kept < FEWEST_IMAGES:
        log.warning(
            "no null distribution of drift: it needs %d test images, and there are %d; "
            "`vqtok calibrate` makes one from images of the operator's",
            2 * FEWEST_IMAGES,
            len(test),
        )
        return reference
    batches = whole_batches(Part(test.images, test.start, test.start + kept), BATCH)
    shown = with_bar("held-out tokens", batches, -(-kept // BATCH))
    tokens = np.concatenate([engine.encode(batch).tokens for batch in shown])
    return reference.with_drift_null(resample_null(tokens, reference.usage, progress=_bar))


def _bar(items: Iterable[int], description: str, total: int, /) -> Iterable[int]:
    return with_bar(description, items, total)
