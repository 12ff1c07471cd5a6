"""Pages in docs/results/ say what the JSON beside them says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.judge.page import samples_page
from training.priors.page import priors_page
from training.report import results_page

RESULTS = Path(__file__).parents[2] / "docs/results"
FOLDERS = sorted(path for path in RESULTS.iterdir() if path.is_dir())

PAGES: dict[str, Callable[[Any, str], str]] = {
    "priors": priors_page,
    "prior-orders": priors_page,
    "samples": samples_page,
}
"""Pages on priors, by the stem of their store: each has a picture of the same name."""


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_a_page_is_what_its_json_gives(folder: Path) -> None:
    assert folder.with_suffix(".md").read_text() == results_page(folder)


def test_a_page_on_priors_is_what_its_json_gives() -> None:
    for store in [path for path in sorted(RESULTS.glob("*.json")) if path.stem in PAGES]:
        picture = store.with_suffix(".png")
        page = PAGES[store.stem](json.loads(store.read_text()), picture.name)
        assert store.with_suffix(".md").read_text() == page
        assert picture.exists()


def test_every_page_has_its_json() -> None:
    """A folder of runs, or a file of a comparison's or an example's own."""
    stores = {store.stem for store in RESULTS.glob("*.json")}
    folders = {folder.name for folder in FOLDERS}
    assert {page.stem for page in RESULTS.glob("*.md")} == folders | stores


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_lowest_error_stands_first(split: str) -> None:
    page = (RESULTS / "cifar10.md").read_text()
    section = page.partition(f"## {split}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    errors = [float(row.split("|")[5]) for row in rows]
    assert errors == sorted(errors)
    assert len(errors) >= 2


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} holds no result"):
        results_page(tmp_path)
