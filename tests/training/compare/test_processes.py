"""Real processes on one store: killed, and side by side."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.processes import ROOT, Process, ended, kill_when
from tests.processes import start as start_program
from tests.training.broken_runs import without_times
from tests.training.compare.made import ROWS, made_data, table_of
from training.compare.command import compare
from training.compare.load import load_comparison
from training.compare.store import Store

NUM_SEARCHES, NUM_RUNS = 3, 5


def config_of(folder: Path, images: Path, *, epochs: int = 10, num_seeds: int = 2) -> Path:
    """One row at one learning rate, finals of 4 steps an epoch, a store in the folder."""
    folder.mkdir(parents=True)
    search = {"learning_rates": [5e-3], "share": 0.25}
    table = table_of(images, folder / "store.json", search=search, seeds=list(range(num_seeds)))
    table["base"]["schedule"]["epochs"] = epochs
    path = folder / "comparison.toml"
    path.write_text(tomli_w.dumps({**table, "method": [ROWS[2]]}))
    return path


def start(config: Path) -> Process:
    work = str(config.parent / "work")
    return start_program("training", "compare", str(config), "--work", work, "--threads", "1")


def records_of(config: Path) -> list[dict[str, Any]]:
    return Store(config.parent / "store.json").records()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_data(tmp_path_factory.mktemp("images"))


@pytest.mark.slow
def test_a_grid_that_is_killed_twice_ends_in_the_same_store(images: Path, tmp_path: Path) -> None:
    whole, broken = (config_of(tmp_path / name, images) for name in ("whole", "broken"))
    compare(load_comparison(whole), whole.parent / "work")
    expected = [without_times(record) for record in records_of(whole)]
    assert len(expected) == NUM_RUNS
    final = expected[NUM_SEARCHES]["digest"]
    kill_when(lambda: len(records_of(broken)) >= 1, start(broken))
    assert 1 <= len(records_of(broken)) < NUM_SEARCHES
    kill_when((broken.parent / "work" / final / "checkpoint.pt").exists, start(broken))
    assert len(records_of(broken)) == NUM_SEARCHES
    compare(load_comparison(broken), broken.parent / "work")
    assert [without_times(record) for record in records_of(broken)] == expected


@pytest.mark.slow
def test_two_processes_share_the_work_and_run_no_run_twice(images: Path, tmp_path: Path) -> None:
    # Finals long enough that whoever starts later still finds some to do.
    config = config_of(tmp_path / "shared", images, epochs=60, num_seeds=4)
    ended(start(config), start(config))
    records = records_of(config)
    assert len({record["digest"] for record in records}) == len(records) == NUM_SEARCHES + 4
    finals = [record["digest"] for record in records if record["phase"] == "final"]
    # Each training opens a log of its own: two logs would be two processes, or one run twice.
    logs = [list((tmp_path / "shared/work" / digest).rglob("events.out.*")) for digest in finals]
    assert [len(found) for found in logs] == [1] * 4
    assert len({found[0].name.split(".")[5] for found in logs}) == 2
    page = (tmp_path / "shared" / "store.md").read_text()
    assert "GM-VQ is number 1 of 1 at equal steps" in page


def test_many_writers_lose_no_record(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys\n"
        "from training.compare.store import Store\n"
        "for number in range(25):\n"
        "    Store(pathlib.Path(sys.argv[1])).append({'digest': f'{sys.argv[2]}-{number}'})\n"
        "    Store(pathlib.Path(sys.argv[1])).append({'digest': f'both-{number}'})\n"
    )
    path = tmp_path / "new" / "store.json"
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(path), name], cwd=ROOT)
        for name in "abc"
    ]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    digests = [record["digest"] for record in json.loads(path.read_text())]
    assert len(digests) == len(set(digests)) == 4 * 25
    assert [file.name for file in path.parent.iterdir()] == ["store.json"]
