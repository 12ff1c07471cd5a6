"""Checkpoints: whole or not at all, and only for the settings they were made with."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import training.checkpoint
from training.checkpoint import CHECKPOINT_FILE, RunState, load_checkpoint, save_checkpoint
from training.settings import SettingsError

SETTINGS: dict[str, Any] = {
    "seed": 0,
    "data": {"flip": True, "folder": "x", "num_workers": 0},
    "schedule": {"checkpoint_every": 3, "device": "cpu"},
}


def module(value: float) -> dict[str, Any]:
    linear = nn.Linear(2, 2)
    nn.init.constant_(linear.weight, value)
    return {"model": linear}


def saved_step(folder: Path) -> int:
    return load_checkpoint(folder, module(0.0), SETTINGS).step


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    state = RunState(7, 1.5, 1.25, [{"step": 4, "mse": 0.25}])
    save_checkpoint(tmp_path, state, module(3.0), SETTINGS)
    fresh = module(0.0)
    assert load_checkpoint(tmp_path, fresh, SETTINGS) == state
    assert (fresh["model"].weight == 3.0).all()


def test_no_checkpoint_is_a_fresh_start(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, module(0.0), SETTINGS) == RunState()


def test_a_disk_that_fills_up_in_the_middle_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, RunState(3), module(3.0), SETTINGS)
    whole = (tmp_path / CHECKPOINT_FILE).read_bytes()

    def half(content: Any, file: Any) -> None:
        file.write(whole[: len(whole) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", half)
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(tmp_path, RunState(6), module(6.0), SETTINGS)
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == whole
    assert saved_step(tmp_path) == 3
    save_checkpoint(tmp_path, RunState(9), module(9.0), SETTINGS)
    assert saved_step(tmp_path) == 9
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]


def test_the_bytes_are_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, RunState(3), module(3.0), SETTINGS)
    steps_at_sync: list[int] = []
    real = os.fsync

    def spy(descriptor: int) -> None:
        real(descriptor)
        steps_at_sync.append(saved_step(tmp_path))

    monkeypatch.setattr(training.checkpoint.os, "fsync", spy)
    save_checkpoint(tmp_path, RunState(6), module(6.0), SETTINGS)
    assert steps_at_sync == [3]
    assert saved_step(tmp_path) == 6


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 1}, ["seed"]),
        ({"data": {"flip": False, "folder": "x"}}, ["data.flip"]),
        ({"data": {"folder": "x"}}, ["data.flip"]),
        ({"start": "new", "seed": 2}, ["seed", "start"]),
    ],
)
def test_other_settings_are_refused_naming_what_changed(
    tmp_path: Path, changed: dict[str, Any], named: list[str]
) -> None:
    save_checkpoint(tmp_path, RunState(3), module(3.0), SETTINGS)
    untouched = module(0.0)
    with pytest.raises(SettingsError) as error:
        load_checkpoint(tmp_path, untouched, {**SETTINGS, **changed})
    assert f"({', '.join(named)})" in str(error.value)
    assert "--fresh" in str(error.value)
    assert (untouched["model"].weight == 0.0).all()


@pytest.mark.parametrize(
    ("table", "setting"),
    [
        ("data", {"num_workers": 2}),
        ("schedule", {"device": "cuda"}),
        ("schedule", {"compile": True}),
        ("schedule", {"checkpoint_every": 7}),
        ("schedule", {"validate_every": 7}),
        ("data", {"folder": "elsewhere"}),
    ],
)
def test_a_run_may_go_on_elsewhere_and_at_another_pace(
    tmp_path: Path, table: str, setting: dict[str, Any]
) -> None:
    save_checkpoint(tmp_path, RunState(3), module(3.0), SETTINGS)
    changed = SETTINGS | {table: SETTINGS[table] | setting}
    assert load_checkpoint(tmp_path, module(0.0), changed).step == 3


def test_a_run_may_be_called_something_else(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, RunState(3), module(3.0), {**SETTINGS, "name": "old"})
    assert load_checkpoint(tmp_path, module(0.0), {**SETTINGS, "name": "new"}).step == 3
