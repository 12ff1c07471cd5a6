"""Pages in docs/results/ say what the JSON beside them says."""

from pathlib import Path

import pytest

from training.report import results_page

RESULTS = Path(__file__).parents[2] / "docs/results"
FOLDERS = sorted(path for path in RESULTS.iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_a_page_is_what_its_json_gives(folder: Path) -> None:
    assert folder.with_suffix(".md").read_text() == results_page(folder)


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
