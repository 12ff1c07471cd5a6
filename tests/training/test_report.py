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
    assert {page.stem for page in RESULTS.glob("*.md")} == {folder.name for folder in FOLDERS}


def test_the_lowest_error_stands_first() -> None:
    page = (RESULTS / "cifar10.md").read_text()
    errors = [float(line.split("|")[5]) for line in page.splitlines() if line.startswith("| GM-VQ")]
    assert errors == sorted(errors)
    assert len(errors) >= 2


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} holds no result"):
        results_page(tmp_path)
