"""Training that starts from trained weights, and parts that stay as they are."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models import load
from models.quantizers import QUANTIZERS
from tests.training.tiny import tiny_settings
from training.runs import train
from training.settings import RunSettings, SettingsError, load_settings, settings_from
from vqtok.bundle import Bundle

FROZEN = ["encoder", "quantizer"]


def settings(method: str, images: Path, start: Path, **more: Any) -> RunSettings:
    return tiny_settings(method, images, {"start": {"model": str(start), **more}})


@pytest.mark.parametrize("method", QUANTIZERS)
def test_with_encoder_and_quantizer_frozen_the_decoder_alone_learns(
    method: str, made_images: Path, tmp_path: Path
) -> None:
    train(tiny_settings(method, made_images), tmp_path / "first")
    train(settings(method, made_images, tmp_path / "first", frozen=FROZEN), tmp_path / "second")
    before, after = (load(tmp_path / name).state_dict() for name in ("first", "second"))
    changed = {name.split(".")[0] for name, x in before.items() if not torch.equal(x, after[name])}
    assert changed == {"decoder"}


def test_everything_learns_from_where_it_was(made_images: Path, tmp_path: Path) -> None:
    first = train(tiny_settings("gmvq", made_images), tmp_path / "first")
    second = train(settings("gmvq", made_images, tmp_path / "first"), tmp_path / "second")
    assert second["history"][0]["mse"] < first["history"][-1]["mse"]
    before, after = (load(tmp_path / name).state_dict() for name in ("first", "second"))
    changed = {name.split(".")[0] for name, x in before.items() if not torch.equal(x, after[name])}
    assert changed == {"encoder", "quantizer", "decoder"}


def test_it_starts_from_a_bundle_too(bundle: Bundle, tmp_path: Path) -> None:
    start = {"model": str(bundle.folder), "frozen": FROZEN}
    table = {**load_settings(bundle.folder / "config.toml").to_table(), "start": start}
    result = train(settings_from(table, "a test"), tmp_path)
    assert result["start"] == bundle.manifest.provenance


def test_the_result_tells_what_came_before(made_images: Path, tmp_path: Path) -> None:
    first = train(tiny_settings("vq", made_images), tmp_path / "first")
    second = train(settings("vq", made_images, tmp_path / "first"), tmp_path / "second")
    assert second["start"] == first


def test_a_folder_without_weights_is_named(made_images: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"start\.model is .*nowhere.*no model\.safetensors"):
        train(settings("vq", made_images, Path("nowhere")), tmp_path)


def test_weights_of_another_model_are_refused(made_images: Path, tmp_path: Path) -> None:
    train(tiny_settings("vq", made_images), tmp_path / "first")
    with pytest.raises(SettingsError, match=r"does not fit \[model\]"):
        train(settings("gmvq", made_images, tmp_path / "first"), tmp_path / "second")
