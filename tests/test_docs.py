"""Documents that cannot fall behind: links, commands, records and versions are the tree's."""

import re
from pathlib import Path

import pytest

import vqtok

ROOT = Path(__file__).parents[1]
FOLDERS = (".", "docs", "docs/adr", "docs/results", "examples", "bundles")
DOCUMENTS = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.md"))
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]


def _anchors(document: Path) -> set[str]:
    titles = re.findall(r"(?m)^#+ (.+)$", document.read_text())
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_there_are_documents() -> None:
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/design.md"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    document = ROOT / name
    for link in re.findall(r"]\(([^)\s]+)\)", document.read_text()):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{name} links to {link}"
        if anchor:
            assert anchor in _anchors(target), f"{name} links to {link}"


def test_the_tests_that_the_pitfalls_name_are_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/pitfalls.md").read_text()))
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert named
    assert named <= set(re.findall(r"(?m)^def (test_\w+)", sources))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_make_command_is_a_target(name: str) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    used = set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", (ROOT / name).read_text()))
    assert used, f"{name} names no command"
    assert used <= targets


def test_make_help_shows_every_target_that_people_use() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"(?m)^\.PHONY: (.+)$", makefile)
    assert set(re.findall(r"(?m)^([a-z-]+):.*## ", makefile)) == set(phony.split())


def test_records_are_numbered_and_say_what_was_rejected() -> None:
    records = sorted((ROOT / "docs/adr").glob("*.md"))
    for number, record in enumerate(records, start=1):
        text = record.read_text()
        assert record.name.startswith(f"{number:04d}-")
        assert text.startswith(f"# {number}. ")
        assert "rejected" in text.lower()
        assert len(text.splitlines()) <= 80, f"{record.name} is longer than a page"


def test_the_newest_release_in_the_changelog_is_this_version() -> None:
    titles = re.findall(r"(?m)^## \[([^]]+)]", (ROOT / "CHANGELOG.md").read_text())
    assert titles[0] == "Unreleased"
    assert titles[1:2] in ([vqtok.__version__], [])
