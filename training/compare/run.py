"""One run of a comparison: train, measure, keep."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import Autoencoder
from training.compare.plan import PlannedRun
from training.compare.record import (
    device_of,
    failed_record,
    finished_record,
    rate,
    usage_quantiles,
)
from training.compare.store import Record
from training.data import Part, Splits
from training.data.batches import to_pixels
from training.evaluate import measure_model
from training.pictures import beside, png
from training.progress import Show
from training.runs import load_run, train

NO_IMAGES = Part([], 0, 0)
PICTURE = "reconstructions.png"
ORIGINALS = "originals.png"
NUM_PICTURES = 8


def perform(
    planned: PlannedRun, folder: Path, splits: Splits, validations: int, show: Show
) -> Record:
    """Train in `folder`, or go on there, and give what is kept.

    A search run is given no test images. Those of a final are looked at once, at its end. A run
    that diverges gives a record that says so.
    """
    settings = planned.settings(len(splits.train), validations)
    seen = replace(splits, test=NO_IMAGES)
    try:
        result = train(settings, folder, splits=seen, show=show)
    except FloatingPointError as error:
        return failed_record(planned, str(error))
    model = load_run(folder)[1].to(device_of(planned))
    if planned.phase == "search":
        figures = result["metrics"]["validation"]
        extra: dict[str, Any] = rate(model.quantizer, figures, len(splits.validation))
        return finished_record(planned, result, figures, extra)
    errors, usage = measure_model(model, splits.test)
    figures = {**errors.summary(), **usage.summary()}
    extra = rate(model.quantizer, figures, len(splits.test))
    extra["usage"] = usage_quantiles(usage.counts)
    _draw(model, splits.test, folder)
    return finished_record(planned, result, figures, extra)


def forget(folder: Path) -> None:
    """Remove what a search run wrote, once its record is in the store."""
    shutil.rmtree(folder, ignore_errors=True)


@torch.no_grad()
def _draw(model: Autoencoder, images: Part, folder: Path) -> None:
    """The first test images and what comes back, each side by side in one file, for the report."""
    originals = np.stack([images[index] for index in range(min(NUM_PICTURES, len(images)))])
    pixels = to_pixels(torch.from_numpy(originals)).to(next(model.parameters()).device)
    shown = model.decode(model.encode(pixels)).mul(255.0).round().byte()
    restored = shown.permute(0, 2, 3, 1).cpu().numpy()
    (folder / ORIGINALS).write_bytes(png(beside(list(originals), gap=0)))
    (folder / PICTURE).write_bytes(png(beside(list(restored), gap=0)))
