"""A page of results, made from the JSON of runs and from nothing else."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.tables import Row, markdown_table, results_table

SPLITS = {
    "validation": (
        "By these the settings were chosen: the last training images, which the runs did not "
        "train on."
    ),
    "test": "Over all test images, in PyTorch and full precision.",
}


def results_page(folder: Path) -> str:
    """Markdown on the results `*.json` in the folder. Raises FileNotFoundError when it has none."""
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no result of a run (*.json)")
    results = [{**json.loads(path.read_text()), "name": path.stem} for path in paths]
    tables = [_section(split, results) for split in SPLITS]
    return "\n\n".join([f"# {folder.name}", *filter(None, tables), _origin(results)]) + "\n"


def _section(split: str, results: Sequence[Mapping[str, Any]]) -> str:
    rows = [Row.of_result(result, split) for result in results if split in result["metrics"]]
    return f"## {split}\n\n{SPLITS[split]}\n\n{results_table(rows)}" if rows else ""


def _origin(results: Sequence[Mapping[str, Any]]) -> str:
    head = ["run", "commit", "seed", "steps", "images", "hardware"]
    rows = [
        [
            r["name"],
            f"`{r['commit']}`",
            str(r["seed"]),
            f"{r['steps']:,}",
            f"{r['images']:,}",
            r["hardware"],
        ]
        for r in results
    ]
    return "## Where they come from\n\n" + markdown_table(head, rows)
