"""Devices: how a run sees its processes, what it refuses, and what it compiles."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models import Autoencoder
from models.networks import Decoder, Encoder
from tests.training.tiny import tiny_settings
from training.data import load_splits
from training.devices import Launch, check_shares, device_type, launch
from training.loop import Trainer
from training.results import hardware
from training.runs import train
from training.settings import RunSettings, SettingsError

TWO = Launch(rank=1, num_processes=2, here=2)


def settings_of(**changes: Any) -> RunSettings:
    return tiny_settings("vq", "images", changes)


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where a cluster has set these for reasons of its own."""
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert launch() == Launch(0, 1, 1)
    assert launch().is_first


def test_torchrun_says_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    assert launch() == Launch(rank=5, num_processes=8, here=4)
    assert not launch().is_first


@pytest.mark.parametrize(
    ("device", "num_gpus", "expected"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda"), ("cpu", 2, "cpu"), ("cuda", 2, "cuda")],
)
def test_a_gpu_is_taken_where_there_is_one_or_it_is_asked_for(
    device: str, num_gpus: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpus(num_gpus, monkeypatch)
    assert device_type(settings_of(**{"schedule.device": device}).schedule, TWO) == expected


def with_gpus(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)


@pytest.mark.parametrize(("device", "num_gpus"), [("cuda", 0), ("cuda", 1), ("auto", 1)])
def test_more_processes_than_gpus_are_refused(
    device: str, num_gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpus(num_gpus, monkeypatch)
    with pytest.raises(SettingsError, match=rf"2 processes .* sees {num_gpus}; .*nproc-per-node"):
        device_type(settings_of(**{"schedule.device": device}).schedule, TWO)


def test_a_batch_that_does_not_divide_is_refused() -> None:
    settings = settings_of(**{"schedule.batch_size": 9})
    with pytest.raises(SettingsError, match=r"batch_size is 9, .* multiple of 2"):
        check_shares(settings, TWO, "cuda")
    check_shares(settings, Launch(), "cuda")


def test_batch_norm_over_several_cpu_processes_is_refused_and_says_what_to_do() -> None:
    settings = settings_of()
    with pytest.raises(SettingsError, match=r'model\.network\.norm = "none"'):
        check_shares(settings, TWO, "cpu")
    check_shares(settings, Launch(), "cpu")
    check_shares(settings, TWO, "cuda")
    check_shares(settings_of(**{"model.network.norm": "none"}), TWO, "cpu")


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_trained(
    made_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpus(0, monkeypatch)
    settings = tiny_settings("vq", made_images, {"schedule.device": "cuda"})
    with pytest.raises(SettingsError, match=r'schedule\.device = "cpu"'):
        train(settings, tmp_path)


def test_several_processes_stand_in_the_name_of_the_hardware() -> None:
    one = hardware(torch.device("cpu"))
    assert hardware(torch.device("cpu"), 4) == f"4 processes: {one}"


def test_encoder_and_decoder_are_compiled_where_asked_and_nothing_else(
    made_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[type] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(type(self)))
    for asked in (False, True):
        settings = tiny_settings("vq", made_images, {"schedule.compile": asked})
        Trainer(settings, load_splits(settings.data), tmp_path / str(asked))
        assert compiled == ([Encoder, Decoder] if asked else [])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_run_trains_what_a_plain_one_trains(made_images: Path, tmp_path: Path) -> None:
    changes = {"schedule.precision": "32-true", "schedule.device": "cpu", "schedule.epochs": 1}
    weights: list[dict[str, torch.Tensor]] = []
    for asked in (False, True):
        settings = tiny_settings("gmvq", made_images, {**changes, "schedule.compile": asked})
        trainer = Trainer(settings, load_splits(settings.data), tmp_path / str(asked))
        trainer.run()
        weights.append(trainer.model.state_dict())
    plain, compiled = weights
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-2, atol=1e-3)


def tokens(model: Autoencoder, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval().encode(pixels.to(next(model.parameters()).device)).cpu()


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["vq", "vq_ema", "gmvq"])
def test_a_run_on_a_gpu_trains_and_its_tokens_are_those_of_the_cpu(
    method: str, made_images: Path, tmp_path: Path
) -> None:
    settings = tiny_settings(method, made_images, {"schedule.device": "cuda"})
    trainer = Trainer(settings, load_splits(settings.data), tmp_path)
    state = trainer.run()
    assert state.history[-1]["mse"] < 0.1
    pixels = torch.rand(8, 3, 16, 16)
    on_gpu, on_cpu = tokens(trainer.model, pixels), tokens(trainer.model.cpu(), pixels)
    assert (on_gpu == on_cpu).float().mean() > 0.98
