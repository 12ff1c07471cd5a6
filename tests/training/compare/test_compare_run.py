"""One run of a grid: the clock of its device, and going on where nothing that counts changed."""

from pathlib import Path

import pytest
import torch

from tests.training.compare.made import comparison_of, made_data
from training.compare.plan import finals_of, points_of, searches_of
from training.compare.record import failed_record, finished_record
from training.compare.run import perform
from training.data import load_splits
from training.loop import Trainer
from training.progress import bars
from training.settings import DataSettings


@pytest.mark.parametrize(
    ("device", "clock"), [("cpu", "processor_seconds"), ("auto", "seconds"), ("cuda", "seconds")]
)
def test_the_clock_and_the_hardware_are_those_of_the_run(
    monkeypatch: pytest.MonkeyPatch, device: str, clock: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    base = comparison_of().base
    base["schedule"]["device"] = device
    comparison = comparison_of(base=base)
    run = searches_of(comparison, comparison.method[0])[0]
    times = {"seconds": 3.0, "processor_seconds": 5.0}
    point = {"step": 2, "mse": 0.01, "perplexity": 8.0, **times}
    result = {"images": 16, "steps": 2, "hardware": "where it ran", "history": [point], **times}
    record = finished_record(run, result, {"mse": 0.01}, {})
    assert (record["hardware"], record["clock"]) == ("where it ran", clock)
    assert record["seconds"] == record["history"][0]["seconds"] == times[clock]
    assert (failed_record(run, "diverged")["hardware"] == "a GPU") is (device != "cpu")


def test_an_interrupted_final_goes_on_under_another_name_place_and_rhythm(tmp_path: Path) -> None:
    images = made_data(tmp_path / "images")
    comparison = comparison_of(images)
    splits = load_splits(DataSettings.model_validate(comparison.base["data"]))
    method = comparison.method[0]
    run = finals_of(comparison, method, points_of(comparison, method)[0])[0]
    with bars() as show, pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "_validate", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            perform(run, tmp_path / "run", splits, 2, show)
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
    images = images.rename(tmp_path / "moved")
    renamed = comparison_of(images).method[0].model_copy(update={"label": "Another"})
    again = finals_of(comparison_of(images), renamed, run.point)[0]
    assert again.digest == run.digest
    splits = load_splits(DataSettings.model_validate(comparison_of(images).base["data"]))
    with bars() as show:
        record = perform(again, tmp_path / "run", splits, 8, show)
    assert (record["method"], record["steps"]) == ("Another", 8)
    assert [point["step"] for point in record["history"]] == [3, 4, 5, 6, 7, 8]
