"""What every test shares: where the data is, hypothesis profiles, and the rule on skipped tests.

In CI (`CI=true`) a skipped test counts as failed, so that a missing tool or data set cannot pass
for a green run. Tests marked `gpu` are the exception.
"""

import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

# Read by onnxruntime when it is imported, so it has to be there before any test module is.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

pytest.register_assert_rewrite("tests.contracts")

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("nightly", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

ROOT = Path(__file__).parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of `cifar10/`, `fashion-mnist/`, `odd-images/`: `VQTOK_DATA`, else `data/`."""
    folder = Path(os.environ.get("VQTOK_DATA") or ROOT / "data")
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}: set VQTOK_DATA (README, section Data)")
    return folder.resolve()


def _has_gpu() -> bool:
    command = shutil.which("nvidia-smi")
    return command is not None and subprocess.run([command], capture_output=True).returncode == 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests marked `gpu` where no NVIDIA GPU answers."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _has_gpu():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))


def _fail_if_skipped_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"in CI a skipped test is a failure. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Applies the rule on skipped tests."""
    report = yield
    if not item.get_closest_marker("gpu"):
        _fail_if_skipped_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Applies the rule on skipped tests to whole modules."""
    report = yield
    _fail_if_skipped_in_ci(report)
    return report
