"""The README's examples, run against the service on the shipped bundle: what they print is true."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ADDRESS = "127.0.0.1:8000"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", README)


def _commands(block: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with what it prints."""
    parts = re.split(r"(?m)^\$ ", block)[1:]
    matches = [re.match(r"((?:.*\\\n)*.*\n)(.*)", part, re.DOTALL) for part in parts]
    return [(match[1], match[2].strip()) for match in matches if match]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Host and port of a service on the shipped bundle, ready."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    command = [sys.executable, "-m", "service", "--port", address.split(":")[1]]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while not _is_ready(address):
            assert process.poll() is None, "the service ended before it was ready"
            assert time.monotonic() < deadline, "not ready after a minute"
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/health/ready", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the checkout's root, to which the examples may write."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("docs", "bundles"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def _run(command: list[str], folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_print_what_the_readme_shows(address: str, folder: Path) -> None:
    commands = [pair for block in _blocks("console") for pair in _commands(block)]
    assert len(commands) >= 5
    for command, shown in commands:
        printed = _run(["bash", "-c", command.replace(ADDRESS, address)], folder)
        assert printed == shown, command


def test_the_python_example_prints_what_the_readme_shows(address: str, folder: Path) -> None:
    (program,) = _blocks("python")
    (shown,) = _blocks("text")
    printed = _run([sys.executable, "-c", program.replace(ADDRESS, address)], folder)
    assert printed == shown.strip()
