"""Comparisons that take seconds, and stores without any run behind them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.training.tiny import smooth_images, tiny_table, write_images
from training.compare.plan import PlannedRun, finals_of, reduced, searches_of
from training.compare.settings import Comparison
from training.compare.store import Record

MANY_STEPS = 10**6
ROWS: list[dict[str, Any]] = [
    {
        "label": "VQ",
        "method": "vq",
        "objective": {"name": "vqvae"},
        "knob": {"key": "objective.options.commitment", "values": [0.1, 0.25, 1.0]},
    },
    {
        "label": "EMA",
        "method": "vq_ema",
        "objective": {"name": "vqvae"},
        "knob": {"key": "model.quantizer.decay", "values": [0.5, 0.9, 0.99]},
        "needs_steps": MANY_STEPS,
        "note": "a note",
    },
    {
        "label": "GM-VQ",
        "method": "gmvq",
        "objective": {"name": "albo", "options": {"beta": 1.0}},
        "knob": {"key": "objective.options.gamma", "values": [3e-4, 1e-3, 3e-3]},
    },
    {
        "label": "Few codes",
        "method": "vq",
        "objective": {"name": "vqvae"},
        "knob": {"key": "objective.options.commitment", "values": [0.1, 0.25, 1.0]},
        "yardstick": True,
        "overrides": {"model.quantizer.codebook_size": 8},
    },
]


def made_data(folder: Path) -> Path:
    """48 training images, of which 16 are for validation, and 12 test images, all of 16 x 16."""
    write_images(folder / "train", smooth_images(48))
    write_images(folder / "test", smooth_images(12, seed=1))
    return folder


def table_of(images: Path | str, store: Path | str, **changes: Any) -> dict[str, Any]:
    """A comparison as TOML has it: 2 steps a search run, 8 steps a final."""
    return {
        "title": "Made images, 2 epochs",
        "store": str(store),
        "subjects": ["GM-VQ"],
        "seeds": [0, 1],
        "search": {"learning_rates": [1e-3, 3e-3, 1e-2], "share": 0.25, "seed": 0},
        "validations": 4,
        "base": {
            "data": tiny_table("gmvq", images)["data"],
            "model": {
                "network": {"width": 8, "num_blocks": 1},
                "quantizer": {"codebook_size": 16, "code_dim": 4},
            },
            "optimiser": {"weight_decay": 1e-4},
            "schedule": {
                "epochs": 2,
                "batch_size": 8,
                "kmeans_vectors": 256,
                "checkpoint_every": 2,
            },
        },
        "method": ROWS,
        **changes,
    }


def comparison_of(
    images: Path | str = "images", store: Path | str = "store.json", **changes: Any
) -> Comparison:
    return Comparison.model_validate(table_of(images, store, **changes))


def finished(run: PlannedRun, mse: float, seconds: float = 10.0, **changes: Any) -> Record:
    """The record of a run that nobody made: its error halves from start to end."""
    times = [seconds * part / 4.0 for part in range(1, 5)]
    curve = [mse * (2.0 - part / 4.0) for part in range(1, 5)]
    return {
        "digest": run.digest,
        "method": run.label,
        "phase": run.phase,
        "seed": run.seed,
        "learning_rate": run.point.learning_rate,
        "knob": run.point.knob,
        "settings": reduced(run.table),
        "steps": 8,
        "images": 64,
        "seconds": seconds,
        "hardware": "a machine",
        "commit": "abc1234",
        "mse": mse,
        "psnr": 20.0,
        "perplexity": 8.0,
        "bits_fixed": 64.0,
        "bits_entropy": 48.0,
        "usage": [3.0, 2.0, 1.0],
        "failed": "",
        "history": [
            {"step": 2 * place, "seconds": time, "mse": error, "perplexity": 8.0}
            for place, (time, error) in enumerate(zip(times, curve, strict=True), start=1)
        ],
        **changes,
    }


def failed(run: PlannedRun) -> Record:
    """The record of a run that diverged."""
    left_out = ("mse", "psnr", "perplexity", "steps", "images", "seconds", "usage")
    kept = {k: v for k, v in finished(run, 1.0).items() if k not in left_out}
    return {**kept, "failed": "the gradient of step 3 is not finite", "history": []}


def store_of(
    comparison: Comparison,
    errors: Mapping[str, Sequence[float | None]],
    seconds: Mapping[str, float] | None = None,
) -> list[Record]:
    """A store in which each search chose its first point, and finals have these errors by seed.

    None stands for a final that has not been run.
    """
    records: list[Record] = []
    for method in comparison.method:
        if method.label not in errors:
            continue
        searches = searches_of(comparison, method)
        records += [finished(run, 0.01 + place) for place, run in enumerate(searches)]
        finals = finals_of(comparison, method, searches[0].point)
        time = (seconds or {}).get(method.label, 10.0)
        records += [
            finished(run, mse, time)
            for run, mse in zip(finals, errors[method.label], strict=True)
            if mse is not None
        ]
    return records
