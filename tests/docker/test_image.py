"""The image's cpu target, built and run for real, without Docker."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILERS = ("cc", "gcc", "g++", "clang", "c++", "ld", "make", "rustc", "nvcc")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@dataclass(frozen=True)
class Image:
    """The built image and a container made from it."""

    command: tuple[str, ...]
    container: str

    def run_command(self, *arguments: str) -> list[str]:
        """The command line that runs `arguments` inside, as the image's user."""
        return [*self.command, "run", self.container, "--", *arguments]

    def run(self, *arguments: str) -> str:
        """What `arguments` print inside."""
        return _output(self.run_command(*arguments))


def _output(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    for tool in ("buildah", "debootstrap"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if os.getuid() != 0:
        pytest.skip("debootstrap needs root")
    os.environ["BUILDAH_ISOLATION"] = "chroot"
    store = tmp_path_factory.mktemp("image")
    _output([str(ROOT / "docker/build-without-docker.sh"), str(store), "cpu"])
    places = ("--root", f"{store}/images", "--runroot", f"{store}/run", "--storage-driver", "vfs")
    command = ("buildah", *places)
    container = _output([*command, "from", "--pull-never", "vqtok:cpu"]).strip()
    yield Image(command, container)
    # Gigabytes, which the folders of the last few test runs must not keep.
    shutil.rmtree(store)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def service_port(image: Image) -> Iterator[int]:
    """The port of a service in the container that has become ready."""
    port = _free_port()
    arguments = ("python", "-m", "service", "--host", "127.0.0.1", "--port", str(port))
    process = subprocess.Popen(image.run_command(*arguments))
    try:
        deadline = time.monotonic() + 60
        while not _is_ready(port):
            assert process.poll() is None, "the service ended before it was ready"
            assert time.monotonic() < deadline, "not ready after a minute"
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_it_holds_neither_torch_nor_a_compiler(image: Image) -> None:
    program = (
        "import importlib.metadata as m, json, shutil;"
        "print(json.dumps({'packages': sorted(d.name for d in m.distributions()),"
        f"'compilers': [c for c in {COMPILERS!r} if shutil.which(c)]}}))"
    )
    found = json.loads(image.run("python", "-c", program))
    assert found["compilers"] == []
    assert "onnxruntime" in found["packages"]
    assert not {"torch", "lightning-fabric", "onnx", "setuptools"} & set(found["packages"])


def test_it_does_not_run_as_root_and_cannot_write_to_its_code(image: Image) -> None:
    program = "import os; print(os.getuid(), os.access('/app/service', os.W_OK))"
    assert image.run("python", "-c", program).split() == ["10001", "False"]


def test_it_becomes_ready_and_its_health_check_agrees(image: Image, service_port: int) -> None:
    docker = json.loads(_output([*image.command, "inspect", image.container]))["Docker"]
    health_check = docker["config"]["Healthcheck"]["Test"]
    assert health_check[0] == "CMD"
    port = f"VQTOK_PORT={service_port}"
    image.run("env", port, *health_check[1:])
    assert docker["config"]["Entrypoint"] == ["python", "-m", "service"]


def test_the_health_check_fails_where_nothing_answers(image: Image) -> None:
    docker = json.loads(_output([*image.command, "inspect", image.container]))["Docker"]
    health_check = docker["config"]["Healthcheck"]["Test"][1:]
    command = image.run_command("env", f"VQTOK_PORT={_free_port()}", *health_check)
    assert subprocess.run(command, capture_output=True).returncode != 0
