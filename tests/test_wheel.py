"""The wheel, in an empty environment outside the checkout: what other programs get."""

import os
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vqtok

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "bundles/cifar10-gmvq"
PICTURE = ROOT / "docs/images/cat.jpg"


def _run(*command: str | Path, folder: Path) -> str:
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("PYTHON")}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    _run(sys.executable, "-m", "pip", "wheel", *options, str(ROOT), folder=folder)
    return next(folder.glob("vqtok-*.whl"))


@pytest.fixture(scope="module")
def commands(wheel: Path) -> Path:
    """The folder of commands of an environment that holds the wheel with its extra `cpu`."""
    environment = wheel.parent / "environment"
    _run(sys.executable, "-m", "venv", environment, folder=wheel.parent)
    pins = re.findall(r"(?m)^\S+==\S+", (ROOT / "requirements/serve-cpu.txt").read_text())
    (wheel.parent / "pins.txt").write_text("\n".join(pins))
    install = ("install", "--quiet", "--no-compile", "--constraint", "pins.txt", f"{wheel}[cpu]")
    _run(environment / "bin/pip", *install, folder=wheel.parent)
    return environment / "bin"


def test_it_ships_vqtok_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "vqtok",
        f"{wheel.name.split('-py3')[0]}.dist-info",
    }
    assert {"vqtok/py.typed", "vqtok/__init__.py", "vqtok/runtime/onnx.py"} <= set(names)


def test_its_metadata_name_no_runtime_outside_the_extras(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    metadata = Parser().parsestr(archive.read(name).decode())
    assert set(metadata.get_all("Provides-Extra", [])) == {"cpu", "gpu", "bench", "bulk", "ray"}
    needed = metadata.get_all("Requires-Dist", [])
    assert not [line for line in needed if "torch" in line]
    assert not [line for line in needed if "onnxruntime" in line and "extra ==" not in line]


@pytest.mark.slow
def test_outside_the_checkout_it_encodes_decodes_and_inspects(
    commands: Path, tmp_path: Path
) -> None:
    options = ("--bundle", BUNDLE)
    _run(commands / "vqtok", "encode", PICTURE, "--output", "tokens.npz", *options, folder=tmp_path)
    _run(
        commands / "vqtok", "decode", "tokens.npz", "--output", "cat.png", *options, folder=tmp_path
    )
    assert "150 x 226" in _run(commands / "vqtok", "inspect", "tokens.npz", folder=tmp_path)
    original, decoded = (
        np.asarray(Image.open(path).convert("RGB"), dtype=np.float64) / 255
        for path in (PICTURE, tmp_path / "cat.png")
    )
    assert original.shape == decoded.shape
    assert np.mean((original - decoded) ** 2) < 0.01


@pytest.mark.slow
def test_outside_the_checkout_there_is_no_service_and_no_torch(
    commands: Path, tmp_path: Path
) -> None:
    program = (
        "import importlib.util as u, vqtok; print(vqtok.__version__, *[name for name in"
        " ('service', 'models', 'training', 'torch', 'fastapi') if u.find_spec(name)])"
    )
    assert _run(commands / "python", "-c", program, folder=tmp_path).split() == [vqtok.__version__]
