"""The command of training in two processes: one folder, one voice, the result of one process."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.storage import WEIGHTS_FILE
from tests.processes import ROOT, Process, ended, kill_when, start_two
from tests.training.broken_runs import checkpoint, differences, interrupt, without_times
from tests.training.tiny import tiny_settings
from training.checkpoint import CHECKPOINT_FILE
from training.results import read_result
from training.runs import train
from training.settings import RunSettings, load_settings

FIRST_CHECKPOINT, STEPS = 3, 32


def settings_of(images: Path, **changes: Any) -> RunSettings:
    shared = {
        "model.network.norm": "none",
        "schedule.precision": "64-true",
        "schedule.device": "cpu",
        "schedule.checkpoint_every": FIRST_CHECKPOINT,
        "schedule.validate_every": 1,
        "schedule.epochs": STEPS // 4,
    }
    return tiny_settings("vq_ema", images, shared | changes)


def written(settings: RunSettings, folder: Path) -> str:
    (folder / "config.toml").write_text(settings.to_toml())
    return str(folder / "config.toml")


def start(config: str, output: Path) -> list[Process]:
    return start_two("training", "train", config, "--output", str(output), "--threads", "1")


def assert_close(one: Path, other: Path) -> None:
    some, others = (load_file(folder / WEIGHTS_FILE) for folder in (one, other))
    for name, value in some.items():
        torch.testing.assert_close(others[name], value, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_two_processes_write_one_run_and_speak_with_one_voice(
    made_images: Path, tmp_path: Path
) -> None:
    settings = settings_of(made_images, **{"schedule.epochs": 2})
    first, second = ended(*start(written(settings, tmp_path), tmp_path / "two"))
    assert "PSNR" in first
    assert second == ""
    alone = train(settings, tmp_path / "one")
    together = read_result(tmp_path / "two")
    assert {path.name for path in (tmp_path / "two").iterdir()} == {
        path.name for path in (tmp_path / "one").iterdir()
    }
    assert len([*(tmp_path / "two" / "tensorboard").iterdir()]) == 1
    assert together["hardware"] == f"2 processes: {alone['hardware']}"
    assert together["images"] == alone["images"] == 64
    for one, two in zip(alone["history"], together["history"], strict=True):
        figures = [{k: v for k, v in e.items() if not k.endswith("seconds")} for e in (one, two)]
        assert figures[1] == pytest.approx(figures[0], rel=1e-6)
    assert_close(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_torchrun_starts_it_and_a_wrong_setting_is_said(made_images: Path, tmp_path: Path) -> None:
    config = written(tiny_settings("vq", made_images, {"schedule.device": "cpu"}), tmp_path)
    command = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    ran = subprocess.run(
        [sys.executable, "-m", *command, "-m", "training", "train", config, "--output", "unused"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode != 0
    assert 'set model.network.norm = "none"' in ran.stderr.replace("\n", " ")


def killed_after_the_first_checkpoint(config: str, output: Path) -> None:
    kill_when((output / CHECKPOINT_FILE).exists, *start(config, output))
    assert FIRST_CHECKPOINT <= checkpoint(output)["run"]["step"] < STEPS


@pytest.mark.slow
def test_two_processes_that_were_killed_go_on_as_two_and_as_one(
    made_images: Path, tmp_path: Path
) -> None:
    """As two to the same bits, as one to the same numbers."""
    config = written(settings_of(made_images), tmp_path)
    ended(*start(config, tmp_path / "unbroken"))
    for number in (1, 2):
        killed_after_the_first_checkpoint(config, tmp_path / f"killed-{number}")
    ended(*start(config, tmp_path / "killed-2"))
    train(load_settings(Path(config)), tmp_path / "killed-1")
    unbroken, again = (checkpoint(tmp_path / name) for name in ("unbroken", "killed-2"))
    assert differences(unbroken["modules"], again["modules"]) == []
    assert without_times(unbroken["run"])["history"] == without_times(again["run"])["history"]
    assert_close(tmp_path / "unbroken", tmp_path / "killed-1")


@pytest.mark.slow
def test_one_process_that_was_interrupted_goes_on_as_two(
    made_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(made_images, **{"schedule.epochs": 2})
    train(settings, tmp_path / "unbroken")
    interrupt(settings, tmp_path / "as two", FIRST_CHECKPOINT + 1, monkeypatch)
    ended(*start(written(settings, tmp_path), tmp_path / "as two"))
    assert_close(tmp_path / "unbroken", tmp_path / "as two")
