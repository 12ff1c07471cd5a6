"""Where a run stands, on disk: written whole or not at all."""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from training.settings import SettingsError

CHECKPOINT_FILE = "checkpoint.pt"
# What says where and how fast a run is computed, and how it is called and watched, but not what.
MAY_CHANGE = frozenset(
    {
        "name",
        "data.folder",
        "data.num_workers",
        "schedule.checkpoint_every",
        "schedule.validate_every",
        "schedule.device",
        "schedule.compile",
    }
)


@dataclass
class RunState:
    """step: how many are done. seconds: spent on them, validations left out.

    processor_seconds: of all threads of this process, which on a CPU does not count what else the
    machine did. history: the figures of each validation, with the step and the times before it.
    """

    step: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list[dict[str, float]])


def save_checkpoint(
    folder: Path, state: RunState, modules: dict[str, Any], settings: dict[str, Any]
) -> None:
    """Write the state dicts of `modules` and the run's state, whole or not at all."""
    path = folder / CHECKPOINT_FILE
    content = {
        "settings": settings,
        "run": asdict(state),
        "modules": {name: module.state_dict() for name, module in modules.items()},
    }
    temporary = path.with_suffix(".partial")
    with temporary.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(folder: Path, modules: dict[str, Any], settings: dict[str, Any]) -> RunState:
    """Restore `modules` from the folder and give the run's state, a fresh one if there is none.

    Raises SettingsError when the checkpoint was made with other settings.
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        return RunState()
    content = torch.load(path, map_location="cpu", weights_only=True)
    changed = sorted(set(_differences(content["settings"], settings)) - MAY_CHANGE)
    if changed:
        raise SettingsError(
            f"{path} was made with other settings ({', '.join(changed)}); choose another folder, "
            "or pass --fresh to start anew in this one"
        )
    for name, module in modules.items():
        module.load_state_dict(content["modules"][name])
    return RunState(**content["run"])


def _differences(one: dict[str, Any], other: dict[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key in one.keys() | other.keys():
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}")
    return found
