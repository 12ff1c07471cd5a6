"""In CI a skipped test is a failure, unless it is marked `gpu`. Seen from outside."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.representative import few_of

ROOT = Path(__file__).parents[1]

SKIPS = """
import pytest
def test_that_skips_itself(): pytest.skip("a reason")
@pytest.mark.skip(reason="a reason")
def test_that_is_marked(): pass
def test_without_data(data_dir): pass
@pytest.mark.xfail(strict=True)
def test_that_is_expected_to_fail(): assert False
@pytest.mark.gpu
def test_for_a_gpu(): pytest.skip("no memory")
"""


def _outcomes(folder: Path, source: str, ci: str) -> tuple[int, dict[str, int]]:
    (folder / "conftest.py").write_bytes((ROOT / "conftest.py").read_bytes())
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    (folder / "test_example.py").write_text(source)
    environment = os.environ | {"CI": ci, "VQTOK_DATA": str(folder / "missing")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "."]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    last = result.stdout.splitlines()[-1]
    return result.returncode, {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", last)}


@pytest.mark.slow
def test_outside_ci_skipped_tests_are_only_counted(tmp_path: Path) -> None:
    status, counts = _outcomes(tmp_path, SKIPS, ci="")
    assert (status, counts["skipped"], counts["xfailed"]) == (0, 4, 1)


def test_in_ci_every_skip_fails_except_those_for_a_gpu(tmp_path: Path) -> None:
    status, counts = _outcomes(tmp_path, SKIPS, ci="true")
    assert status == 1
    assert (counts["failed"], counts["errors"], counts["skipped"]) == (1, 2, 1)
    assert counts["xfailed"] == 1


@pytest.mark.parametrize(
    ("ci", "status"), few_of([("", {0, 5}), ("true", {1, 2})], [("true", {1, 2})])
)
def test_a_whole_module_that_skips_follows_the_same_rule(
    tmp_path: Path, ci: str, status: set[int]
) -> None:
    source = 'import pytest\npytest.skip("a reason", allow_module_level=True)\n'
    assert _outcomes(tmp_path, source, ci)[0] in status
