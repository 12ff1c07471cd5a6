"""What is kept of a finished run."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.quantizers import Quantizer
from training.compare.plan import PlannedRun, reduced
from training.compare.store import Record
from training.devices import device_type, launch
from training.results import commit, hardware
from training.settings import settings_from

DIGITS = 6
USAGE_POINTS = 65
FIGURES = (
    "mse",
    "psnr",
    "ssim",
    "perplexity",
    "soft_perplexity",
    "used_codes",
    "posterior_entropy",
)
CURVE = ("step", "mse", "perplexity")


def finished_record(
    planned: PlannedRun,
    result: Mapping[str, Any],
    figures: Mapping[str, float],
    extra: Mapping[str, Any],
) -> Record:
    """The record of a run that ended: of `figures` (a search's on validation, a final's on test)
    those of the table, of `result` what it took, and `extra` beside them.
    """
    kept = {name: figures[name] for name in FIGURES if name in figures}
    if "mutual_information" in figures:
        kept["mutual_information_bits"] = figures["mutual_information"] / math.log(2.0)
    clock = _clock(planned)
    curve = [
        {**{key: point[key] for key in CURVE}, "seconds": point[clock]}
        for point in result["history"]
    ]
    run = {name: result[name] for name in ("images", "steps", "hardware")}
    run["seconds"] = result[clock]
    return _rounded({**_origin(planned), **run, **kept, **extra, "failed": "", "history": curve})


def failed_record(planned: PlannedRun, sentence: str) -> Record:
    """The record of a run that diverged: its sentence, and no figures."""
    where = hardware(device_of(planned))
    return _rounded(
        {**_origin(planned), "hardware": where, "failed": sentence, "history": []},
    )


def device_of(planned: PlannedRun) -> torch.device:
    """The device that a run's schedule chooses on this machine."""
    schedule = settings_from(dict(planned.table), planned.label).schedule
    return torch.device(device_type(schedule, launch()))


def rate(quantizer: Quantizer, figures: Mapping[str, float], num_images: int) -> dict[str, float]:
    """bits_fixed: an image's tokens at ceil(log2 K) bits each, sent as they are. bits_entropy:
    their entropy under the usage of the codes over the split, what an ideal coder without context
    would need.
    """
    tokens = figures["num_tokens"] / num_images
    return {
        "code_dim": quantizer.code_dim,
        "bits_fixed": tokens * math.ceil(math.log2(quantizer.codebook_size)),
        "bits_entropy": tokens * math.log2(figures["perplexity"]),
    }


def usage_quantiles(counts: NDArray[np.int64]) -> list[float]:
    """Shares of the codes in percent of all tokens, most used first, at 65 even ranks."""
    ordered = np.sort(counts, axis=None)[::-1] / max(int(counts.sum()), 1) * 100.0
    places = np.linspace(0, len(ordered) - 1, USAGE_POINTS)
    return np.interp(places, np.arange(len(ordered)), ordered).tolist()


def _origin(planned: PlannedRun) -> dict[str, Any]:
    return {
        "digest": planned.digest,
        "method": planned.label,
        "phase": planned.phase,
        "split": "validation" if planned.phase == "search" else "test",
        "seed": planned.seed,
        "epochs": planned.table["schedule"]["epochs"],
        "learning_rate": planned.table["optimiser"]["learning_rate"],
        "knob": planned.point.knob,
        "clock": _clock(planned),
        "commit": commit(),
        "settings": reduced(planned.table),
    }


def _clock(planned: PlannedRun) -> str:
    """Which of a run's times compares methods: a CPU's does without what else the machine did."""
    return "processor_seconds" if device_of(planned).type == "cpu" else "seconds"


def _rounded(value: Any) -> Any:
    """Six significant digits, which is more than two runs on two machines share."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
