"""The grid on made images: what it runs, what it looks at, what stops it and what does not."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import training.compare.grid
import training.compare.run
import training.compare.store
from tests.training.compare.made import comparison_of, made_data, store_of
from tests.training.tiny import one_thread
from training.compare.command import compare
from training.compare.grid import pending, run_grid, size_of
from training.compare.plan import searches_of
from training.compare.run import ORIGINALS, PICTURE, forget, perform
from training.compare.settings import Comparison
from training.compare.store import Store, claimed
from training.data import load_splits
from training.data.folder import FolderImages
from training.progress import bars
from training.settings import DataSettings, SettingsError

TWO_ROWS = ("VQ", "GM-VQ")


@dataclass
class Watched:
    """A finished grid, the images that were read while each run ran, and the runs in order."""

    comparison: Comparison
    work: Path
    order: list[tuple[str, str, int]] = field(default_factory=list)
    read: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("grid")
    whole = comparison_of(made_data(folder / "images"), folder / "store.json")
    rows = tuple(method for method in whole.method if method.label in TWO_ROWS)
    seen = Watched(whole.model_copy(update={"method": rows}), folder / "work")
    read, run = FolderImages.__getitem__, perform
    now: list[tuple[str, str]] = [("", "")]

    def spy_read(images: FolderImages, index: int) -> NDArray[np.uint8]:
        counts = seen.read.setdefault(now[0], Counter())
        counts[str(images.paths[index].relative_to(folder / "images"))] += 1
        return read(images, index)

    def spy_run(planned: Any, *arguments: Any) -> Any:
        now[0] = (planned.phase, planned.digest)
        seen.order.append((planned.phase, planned.label, planned.seed))
        return run(planned, *arguments)

    with pytest.MonkeyPatch.context() as patched, one_thread():
        patched.setattr(FolderImages, "__getitem__", spy_read)
        patched.setattr(training.compare.grid, "perform", spy_run)
        compare(seen.comparison, seen.work)
    return seen


def test_every_row_gets_the_same_runs(watched: Watched) -> None:
    records = Store(watched.comparison.store).records()
    assert len(records) == size_of(watched.comparison) == 2 * (9 + 2)
    for label in TWO_ROWS:
        own = [record for record in records if record["method"] == label]
        assert Counter((r["phase"], r["seed"], r["steps"], r["images"]) for r in own) == {
            ("search", 0, 2, 16): 9,
            ("final", 0, 8, 64): 1,
            ("final", 1, 8, 64): 1,
        }


def test_the_search_reads_no_test_image_and_a_final_reads_each(watched: Watched) -> None:
    assert len(watched.read) >= 22
    for (phase, _), counts in watched.read.items():
        test_images = {name for name in counts if name.startswith("test")}
        if phase == "final":
            assert test_images == {f"test/{number:04}.png" for number in range(12)}
        else:
            assert not test_images
        if phase:
            assert any(name.startswith("train") for name in counts)


def test_the_test_images_are_measured_once_a_final(watched: Watched) -> None:
    for (phase, _), counts in watched.read.items():
        measured = [counts[f"test/{number:04}.png"] for number in range(8, 12)]
        drawn = [counts[f"test/{number:04}.png"] for number in range(8)]
        expected = (1, 2) if phase == "final" else (0, 0)
        assert (set(measured), set(drawn)) == ({expected[0]}, {expected[1]})


def test_the_final_has_the_setting_of_the_lowest_validation_error(watched: Watched) -> None:
    records = Store(watched.comparison.store).records()
    for label in TWO_ROWS:
        own = [record for record in records if record["method"] == label]
        best = min((r for r in own if r["phase"] == "search"), key=lambda r: r["mse"])
        assert best["split"] == "validation"
        for final in (record for record in own if record["phase"] == "final"):
            assert final["split"] == "test"
            assert (final["learning_rate"], final["knob"]) == (best["learning_rate"], best["knob"])


def test_a_record_has_the_figures_the_curve_and_the_rate(watched: Watched) -> None:
    for record in Store(watched.comparison.store).records():
        assert record["bits_fixed"] == 16 * 4
        tokens = 16 * np.log2(record["perplexity"])
        assert record["bits_entropy"] == pytest.approx(tokens, rel=1e-4)
        assert record["mutual_information_bits"] <= np.log2(record["soft_perplexity"]) + 1e-4
        final = record["phase"] == "final"
        assert [point["step"] for point in record["history"]] == ([2, 4, 6, 8] if final else [2])
        times = [point["seconds"] for point in record["history"]]
        assert times == sorted(times)
        assert ("usage" in record) is final
        if final:
            assert record["usage"] == sorted(record["usage"], reverse=True)
            assert set(record) >= {"ssim", "posterior_entropy", "hardware", "commit", "code_dim"}


def test_searches_come_first_and_the_first_seed_of_all_rows_next(watched: Watched) -> None:
    assert watched.order == [
        *(("search", label, 0) for label in TWO_ROWS for _ in range(9)),
        *(("final", label, seed) for seed in (0, 1) for label in TWO_ROWS),
    ]


def test_finals_keep_their_pictures_and_searches_no_folder(watched: Watched) -> None:
    finals = {r["digest"] for r in Store(watched.comparison.store).records() if "usage" in r}
    assert {folder.name for folder in watched.work.iterdir()} == finals
    for digest in finals:
        assert (watched.work / digest / ORIGINALS).is_file()
        assert (watched.work / digest / PICTURE).is_file()


def test_a_finished_grid_runs_nothing_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("a finished run was run again")

    before = watched.comparison.store.read_bytes()
    monkeypatch.setattr(training.compare.grid, "perform", never)
    compare(watched.comparison, watched.work)
    assert watched.comparison.store.read_bytes() == before


def test_row_by_row_is_the_other_order() -> None:
    comparison = comparison_of()
    records = store_of(comparison, {m.label: [None, None] for m in comparison.method})
    known = {record["digest"]: record for record in records}
    runs = [(run.label, run.seed) for run in pending(comparison, known, "rows")]
    assert runs == [(method.label, seed) for method in comparison.method for seed in (0, 1)]
    runs = [(run.label, run.seed) for run in pending(comparison, known, "table")]
    assert runs == [(method.label, seed) for seed in (0, 1) for method in comparison.method]


def test_a_diverged_run_is_recorded_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = comparison_of(made_data(tmp_path / "images"), tmp_path / "store.json")
    comparison = whole.model_copy(update={"method": whole.method[:1], "subjects": ("VQ",)})
    train = training.compare.run.train

    def breaking(settings: Any, *arguments: Any, **options: Any) -> Any:
        if settings.optimiser.learning_rate == 1e-2:
            raise FloatingPointError("the gradient of step 1 is not finite")
        return train(settings, *arguments, **options)

    monkeypatch.setattr(training.compare.run, "train", breaking)
    reports = compare(comparison, tmp_path / "work")
    records = Store(comparison.store).records()
    assert len(records) == 11
    broken = [record for record in records if record["failed"]]
    assert [record["learning_rate"] for record in broken] == [1e-2] * 3
    assert {record["failed"] for record in broken} == {"the gradient of step 1 is not finite"}
    finals = [record for record in records if record["phase"] == "final"]
    assert all(record["learning_rate"] < 1e-2 and not record["failed"] for record in finals)
    assert reports.markdown.read_text().count("diverged") == 3


def test_a_run_that_really_diverges_gives_its_sentence(tmp_path: Path) -> None:
    search = {"learning_rates": [1e30, 1e31, 1e32], "share": 1.0}
    comparison = comparison_of(made_data(tmp_path / "images"), search=search)
    splits = load_splits(DataSettings.model_validate(comparison.base["data"]))
    run = searches_of(comparison, comparison.method[0])[0]
    with bars() as show:
        record = perform(run, tmp_path / "run", splits, 4, show)
    assert "is not finite; lower optimiser.learning_rate" in record["failed"]
    assert "mse" not in record


def test_a_claim_ends_with_the_process_that_has_it(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from training.compare.store import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1])) as mine:\n"
        "    print(mine, flush=True)\n"
        "    time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "work" / "run")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        with claimed(tmp_path / "work" / "run") as mine:
            assert not mine
        with claimed(tmp_path / "work" / "other") as mine:
            assert mine
    finally:
        holder.kill()
        holder.wait(60)
        assert holder.stdout is not None
        holder.stdout.close()
    with claimed(tmp_path / "work" / "run") as mine:
        assert mine


def test_a_claim_is_made_again_where_the_folder_went_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, folder = os.open, tmp_path / "run"

    def gone_at_first(path: Path, flags: int) -> int:
        monkeypatch.undo()
        forget(folder)
        assert not folder.exists()
        return real(path, flags)

    monkeypatch.setattr(training.compare.store.os, "open", gone_at_first)
    with claimed(folder) as mine:
        assert mine
        assert (folder / "claim").is_file()


def test_data_without_test_images_stop_a_grid_before_its_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(made_data(tmp_path / "images") / "test")
    monkeypatch.setattr(training.compare.grid, "perform", lambda *_: pytest.fail("a run started"))
    comparison = comparison_of(tmp_path / "images", tmp_path / "store.json")
    with pytest.raises(SettingsError, match="the data have no test images"):
        compare(comparison, tmp_path / "work")


def test_a_grid_whose_runs_are_all_claimed_waits_and_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = comparison_of(store=tmp_path / "store.json")
    errors = {method.label: [0.01, 0.01] for method in comparison.method}
    records = store_of(comparison, errors)
    for record in records[:-1]:
        Store(comparison.store).append(record)
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            Store(comparison.store).append(records[-1])

    monkeypatch.setattr(training.compare.grid.time, "sleep", sleep)
    data: Any = None
    with claimed(tmp_path / records[-1]["digest"]), bars() as show:
        run_grid(comparison, data, tmp_path, show)
    assert len(waited) == 3
