"""docs/adding-a-quantizer.md, followed to the letter in a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.tiny import smooth_images, write_images
from vqtok.bundle import Bundle
from vqtok.runtime.onnx import open_engine

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding-a-quantizer.md").read_text()
COPIED = ("models", "training", "vqtok", "tests", "conftest.py", "pyproject.toml")

NAMED = r"(?ms)^`([\w/.]+)`:$|^```(\w+)\n(.*?)^```$"
COMMAND = re.compile(r"(?m)^\$ (.*)$")


def edits() -> list[tuple[str, str, str]]:
    """The page's (file, kind, content) in order; a file's name stands above its blocks."""
    found, name = [], ""
    for match in re.finditer(NAMED, PAGE):
        name = match[1] or name
        if match[2] in ("python", "toml", "diff"):
            found.append((name, match[2], match[3]))
    return found


def commands(word: str) -> list[str]:
    """The page's command lines that hold `word`."""
    blocks = re.findall(r"(?ms)^```console\n(.*?)^```$", PAGE)
    return [line for block in blocks for line in COMMAND.findall(block) if word in line]


def insert(file: Path, change: str) -> None:
    """Put the lines with + below the one line without, which the file has exactly once."""
    (anchor,) = re.findall(r"(?m)^ (.*)$", change)
    added = re.findall(r"(?m)^\+(.*)$", change)
    lines = file.read_text().split("\n")
    assert lines.count(anchor) == 1, f"{file.name} has {lines.count(anchor)} lines {anchor!r}"
    place = lines.index(anchor) + 1
    file.write_text("\n".join([*lines[:place], *added, *lines[place:]]))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the page's file and lines in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    for name, kind, content in edits():
        if kind == "diff":
            insert(folder / name, content)
        else:
            (folder / name).write_text(content)
    return folder


def run(command: str, folder: Path) -> str:
    """What the command prints in `folder`; it must succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "COLUMNS": "100", "CI": ""}
    result = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def test_the_page_is_one_file_one_line_and_what_tests_it() -> None:
    assert [(name, kind) for name, kind, _ in edits()] == [
        ("models/quantizers/lfq.py", "python"),
        ("models/quantizers/__init__.py", "diff"),
        ("models/quantizers/__init__.py", "diff"),
        ("tests/contracts/quantizers/options.py", "diff"),
        ("lfq.toml", "toml"),
    ]
    assert len(commands("python -m")) == 4


@pytest.mark.slow
def test_the_added_quantizer_keeps_every_law(checkout: Path) -> None:
    (command,) = commands("pytest")
    passed = re.search(r"(\d+) passed, \d+ deselected", run(command, checkout))
    assert passed is not None
    files = (ROOT / command.split()[4]).glob("test_*.py")
    laws = [law for f in files for law in re.findall(r"(?m)^def test_\w+\(\s*make", f.read_text())]
    assert int(passed[1]) >= 2 * len(laws) > 40


@pytest.mark.slow
def test_a_law_that_the_added_quantizer_breaks_is_found(checkout: Path, tmp_path: Path) -> None:
    """Else the commands above would pass on anything."""
    broken = shutil.copytree(checkout, tmp_path / "broken")
    file = broken / "models/quantizers/lfq.py"
    text = file.read_text()
    file.write_text(text.replace("indices = scores.argmax(-1)", "indices = scores.argmin(-1)"))
    assert file.read_text() != text
    with pytest.raises(AssertionError, match="test_indices_are_those_of_forward"):
        run(commands("pytest")[0], broken)


@pytest.mark.slow
def test_the_run_of_the_page_becomes_a_bundle(checkout: Path) -> None:
    write_images(checkout / "images" / "train", smooth_images(64, side=32))
    write_images(checkout / "images" / "test", smooth_images(16, side=32, seed=1))
    printed = [
        run(command, checkout) for word in ("training", "vqtok") for command in commands(word)
    ]
    assert "perplexity" in printed[0]
    assert "lfq" in printed[-1]
    bundle = Bundle.open(checkout / "bundles" / "lfq")
    assert (bundle.manifest.method, bundle.manifest.codebook_size) == ("lfq", 64)
    encoded = open_engine(bundle, "cpu").encode(smooth_images(4, side=32, seed=2))
    assert len(set(encoded.tokens.reshape(-1).tolist())) > 4
