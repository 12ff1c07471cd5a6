"""Runs that end in the middle, and what two runs differ in."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from training.checkpoint import CHECKPOINT_FILE
from training.loop import Trainer
from training.runs import train
from training.settings import RunSettings

TIMES = ("seconds", "processor_seconds", "images_per_second")


class Interrupted(Exception):
    """Stands for whatever ends a run in the middle."""


def interrupt(
    settings: RunSettings, folder: Path, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train until step `last`, which does not happen."""
    step = Trainer._step

    def broken(self: Trainer, number: int, batch: Any) -> Any:
        if number == last:
            raise Interrupted
        return step(self, number, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_step", broken)
        with pytest.raises(Interrupted):
            train(settings, folder)


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / CHECKPOINT_FILE, weights_only=True)


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two nested states differ in any bit."""
    if isinstance(one, Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
        return [] if same else [place]
    if isinstance(one, dict):
        keys = one.keys() | other.keys()
        if one.keys() != other.keys():
            return [f"{place}: keys"]
        return [d for key in keys for d in differences(one[key], other[key], f"{place}/{key}")]
    if isinstance(one, list):
        if len(one) != len(other):
            return [f"{place}: length"]
        pairs = enumerate(zip(one, other, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{place}/{i}")]
    return [] if one == other else [place]


def without_times(run: dict[str, Any]) -> dict[str, Any]:
    """A run's state or result without the seconds that it took."""
    kept = {key: value for key, value in run.items() if key not in TIMES}
    history = [{k: v for k, v in entry.items() if k not in TIMES} for entry in run["history"]]
    return {**kept, "history": history}
