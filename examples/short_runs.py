"""GM-VQ runs of the examples: settings as a table, changed by name, trained into a folder."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from training.runs import train
from training.settings import RunSettings, set_value, settings_from


def base_table() -> dict[str, Any]:
    """The paper's setting on CIFAR-10: 8 x 8 tokens, 1024 codes of 64 dimensions."""
    return {
        "name": "example",
        "data": {"kind": "cifar10", "folder": "$VQTOK_DATA/cifar10"},
        "model": {
            "method": "gmvq",
            "network": {"width": 64},
            "quantizer": {"codebook_size": 1024, "code_dim": 64},
        },
        "objective": {"name": "albo", "options": {"gamma": 1e-3, "beta": 1.0}},
        "optimiser": {"learning_rate": 2e-3},
        "schedule": {"epochs": 1.0, "batch_size": 64},
    }


def smoke_changes(output: Path) -> dict[str, Any]:
    """A tiny model for two epochs on 32 made images, written below `output`; 16 validate."""
    folder = output / "images"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for place in range(48):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse.repeat(4, 0).repeat(4, 1)).save(folder / f"{place:02}.png")
    return {
        "data": {
            "kind": "folder",
            "folder": str(folder),
            "image_size": 16,
            "validation_images": 16,
        },
        "model.network.width": 8,
        "model.quantizer.codebook_size": 16,
        "model.quantizer.code_dim": 4,
        "schedule": {"epochs": 2, "batch_size": 8, "kmeans_vectors": 256},
    }


def settings_with(changes: Mapping[str, Any]) -> RunSettings:
    """The base table with "table.key" changed, in their order."""
    table = base_table()
    for name, value in changes.items():
        set_value(table, name, value)
    return settings_from(table, "an example")


def run(name: str, changes: Mapping[str, Any], output: Path) -> dict[str, Any]:
    """Train into `output/name`, or go on there; the validation figures, and what made them."""
    result = train(settings_with({"name": name, **changes}), output / name)
    origin = {key: result[key] for key in ("commit", "seed", "steps", "images", "hardware")}
    return {"name": name, **origin, **result["metrics"]["validation"]}


class Asked(NamedTuple):
    """What a command line asks for: where results go, and in what runs differ from the base."""

    output: Path
    changes: dict[str, Any]
    smoke: bool


def parse(arguments: Sequence[str] | None, description: str, *, name: str, epochs: float) -> Asked:
    """The command line of the example `name`, whose runs are `epochs` long unless it says else."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, default=Path("runs") / name)
    parser.add_argument("--epochs", type=float, default=epochs, help="of each run")
    parser.add_argument("--smoke", action="store_true", help="tiny runs, in seconds")
    given = parser.parse_args(arguments)
    changes = smoke_changes(given.output) if given.smoke else {"schedule.epochs": given.epochs}
    return Asked(given.output, changes, given.smoke)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of cells."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_results(path: Path, result: Mapping[str, Any], page: str) -> None:
    """`path` with .json and .md."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(page)
