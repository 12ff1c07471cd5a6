"""A run's result as JSON: what was done, with what, on what, and what came out."""

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from training.checkpoint import RunState
from training.settings import RunSettings

RESULT_FILE = "result.json"


def hardware(device: torch.device, num_processes: int = 1) -> str:
    """The GPU's name or the processor's, with the number of processes where there are several."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return name if num_processes == 1 else f"{num_processes} processes: {name}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    threads = torch.get_num_threads()
    plural = "s" if threads > 1 else ""
    return f"{next(names, platform.processor())}, {threads} thread{plural}"


def commit() -> str:
    """The checkout's commit, with "+" where files differ from it; "unknown" outside a checkout."""
    root = Path(__file__).parent
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def run_result(
    settings: RunSettings, state: RunState, where: str, metrics: dict[str, Any]
) -> dict[str, Any]:
    """The result of a run on the hardware `where`; `metrics` by split.

    `seconds` are those of the training steps, with their data and without evaluation;
    `processor_seconds` likewise, of all threads of the first process.
    """
    images = state.step * settings.schedule.batch_size
    return {
        "name": settings.name,
        "settings": settings.to_table(),
        "commit": commit(),
        "seed": settings.seed,
        "steps": state.step,
        "images": images,
        "seconds": round(state.seconds, 1),
        "processor_seconds": round(state.processor_seconds, 1),
        "images_per_second": round(images / state.seconds, 1),
        "hardware": where,
        "metrics": metrics,
        "history": state.history,
    }


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Write it as indented JSON."""
    text = json.dumps(result, indent=1, allow_nan=False)
    (folder / RESULT_FILE).write_text(text + "\n")


def read_result(path: Path) -> dict[str, Any]:
    """The result in a file, or in a run's folder."""
    return json.loads((path / RESULT_FILE if path.is_dir() else path).read_text())
