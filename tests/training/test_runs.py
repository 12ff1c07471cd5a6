"""A run's folder: what it holds, what is refused, what a second start does."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from models import load
from models.storage import WEIGHTS_FILE
from tests.training.tiny import tiny_settings
from training.checkpoint import CHECKPOINT_FILE
from training.data import load_splits
from training.evaluate import evaluate_engine, evaluate_model
from training.results import RESULT_FILE, commit, read_result, write_result
from training.runs import evaluate_folder, load_run, train
from training.settings import SettingsError, load_settings
from vqtok.bundle import Bundle
from vqtok.runtime.onnx import open_engine

PASSED = ("step", "seconds", "processor_seconds")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def numbers_of(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers_of(item)
    elif isinstance(value, int | float):
        yield value


def test_a_result_says_what_was_done_with_what_on_what(made_images: Path, tmp_path: Path) -> None:
    settings = tiny_settings("vq", made_images, {"schedule.validate_every": 3})
    result = train(settings, tmp_path)
    assert result == read_result(tmp_path) == read_result(tmp_path / RESULT_FILE)
    assert result["name"] == "tiny-vq"
    assert result["settings"] == settings.to_table()
    assert (result["seed"], result["steps"], result["images"]) == (3, 8, 64)
    spent = torch.load(tmp_path / CHECKPOINT_FILE)["run"]["seconds"]
    assert spent > 0.0
    assert result["seconds"] == round(spent, 1)
    assert result["images_per_second"] == pytest.approx(64 / spent, abs=0.1)
    assert result["commit"] == commit()
    assert result["hardware"].endswith("1 thread")
    assert [entry["step"] for entry in result["history"]] == [3, 6, 8]
    times = [entry["seconds"] for entry in result["history"]]
    assert 0.0 < times[0] < times[1] < times[2] == pytest.approx(spent, abs=1e-3)
    last = {k: v for k, v in result["history"][-1].items() if k not in PASSED}
    assert result["metrics"] == {"validation": last}
    assert all(math.isfinite(number) for number in numbers_of(result))


def test_a_result_with_what_is_no_number_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_result(tmp_path, {"mse": float("nan")})
    assert not (tmp_path / RESULT_FILE).exists()


def test_a_finished_run_gives_its_model_and_settings(made_images: Path, tmp_path: Path) -> None:
    settings = tiny_settings("gmvq", made_images)
    train(settings, tmp_path)
    read, model = load_run(tmp_path)
    assert read == settings
    assert not model.training
    saved = torch.load(tmp_path / CHECKPOINT_FILE)["modules"]["model"]
    assert all(torch.equal(saved[name], tensor) for name, tensor in model.state_dict().items())


def test_a_run_without_validation_images_has_no_figures(made_images: Path, tmp_path: Path) -> None:
    settings = tiny_settings("vq", made_images, {"data.validation_images": 0})
    assert train(settings, tmp_path)["metrics"] == {}


def test_a_finished_run_that_is_started_again_changes_nothing(
    real_images: Path, tmp_path: Path
) -> None:
    settings = tiny_settings("vq", real_images, {"data.image_size": 32, "schedule.epochs": 1})
    train(settings, tmp_path)
    evaluate_folder(tmp_path, "test")
    before = contents(tmp_path)
    result = train(settings, tmp_path)
    assert contents(tmp_path) == before
    assert set(result["metrics"]) == {"validation", "test"}


def test_other_settings_in_the_folder_are_refused_and_leave_it_as_it_was(
    made_images: Path, tmp_path: Path
) -> None:
    train(tiny_settings("vq", made_images), tmp_path)
    before = contents(tmp_path)
    other = tiny_settings("vq", made_images, {"optimiser.learning_rate": 1e-3, "seed": 4})
    with pytest.raises(SettingsError, match=r"\(optimiser\.learning_rate, seed\).*--fresh"):
        train(other, tmp_path)
    assert contents(tmp_path) == before


def test_fresh_removes_what_was_there_and_starts_anew(made_images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(tiny_settings("vq", made_images), folder)
    (folder / "left over").write_text("from the old run")
    other = tiny_settings("vq", made_images, {"seed": 4})
    result = train(other, folder, fresh=True)
    assert result["seed"] == 4
    assert not (folder / "left over").exists()
    train(other, tmp_path / "apart")
    assert (folder / WEIGHTS_FILE).read_bytes() == (tmp_path / "apart" / WEIGHTS_FILE).read_bytes()


def test_fresh_removes_no_folder_that_holds_no_run(made_images: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    train(tiny_settings("vq", made_images), tmp_path, fresh=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_missing_data_are_found_before_the_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no image"):
        train(tiny_settings("vq", tmp_path / "none"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_not_ended_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"no finished run.*--output {tmp_path}"):
        load_run(tmp_path)


def test_a_run_is_evaluated_on_the_split_that_was_named(run: Path) -> None:
    before = read_result(run)
    figures = evaluate_folder(run, "test")
    settings, model = load_run(run)
    splits = load_splits(settings.data)
    assert figures == evaluate_model(model, splits.test)
    assert figures["num_tokens"] == 24 * 64
    after = read_result(run)
    assert after["metrics"]["test"] == figures
    assert after["metrics"]["validation"] == before["metrics"]["validation"]
    validation = evaluate_folder(run, "validation")
    assert validation["num_tokens"] == 16 * 64
    assert validation["mse"] == pytest.approx(before["metrics"]["validation"]["mse"], rel=0.02)


def test_a_bundle_is_evaluated_by_its_graphs_and_left_as_it_is(bundle: Bundle) -> None:
    before = contents(bundle.folder)
    figures = evaluate_folder(bundle.folder, "test")
    images = load_splits(load_settings(bundle.folder / "config.toml").data).test
    engine = open_engine(bundle, "cpu", num_threads=1)
    assert figures == evaluate_engine(engine, 16, images)
    assert figures["mse"] == pytest.approx(bundle.manifest.metrics["test"]["mse"])
    assert contents(bundle.folder) == before


def test_a_run_and_its_bundle_have_nearly_equal_figures(run: Path, bundle: Bundle) -> None:
    torch_figures, graph_figures = (evaluate_folder(f, "test") for f in (run, bundle.folder))
    assert graph_figures["mse"] == pytest.approx(torch_figures["mse"], rel=2e-3)
    assert graph_figures["perplexity"] == pytest.approx(torch_figures["perplexity"], rel=1e-2)


def test_another_folder_may_hold_the_data(run: Path, real_images: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.symlink_to(real_images)
    assert evaluate_folder(run, "test", str(moved)) == evaluate_folder(run, "test")


def test_a_split_that_is_none_or_empty_is_refused(
    run: Path, made_images: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"'tset'.*train, validation, test"):
        evaluate_folder(run, "tset")
    train(tiny_settings("vq", made_images), tmp_path)
    with pytest.raises(SettingsError, match="no test images"):
        evaluate_folder(tmp_path, "test")


def test_results_are_indented_json(tmp_path: Path) -> None:
    write_result(tmp_path, {"a": {"b": 1}})
    text = (tmp_path / RESULT_FILE).read_text()
    assert json.loads(text) == {"a": {"b": 1}}
    assert text.count("\n") > 2


def test_a_model_file_that_does_not_fit_its_settings_is_refused(
    made_images: Path, tmp_path: Path
) -> None:
    train(tiny_settings("vq", made_images), tmp_path)
    config = tmp_path / "config.toml"
    config.write_text(config.read_text().replace("width = 8", "width = 12"))
    with pytest.raises(ValueError, match=r"does not fit config\.toml"):
        load(tmp_path)
