"""The one-way rule, where the import linter cannot see it: what is loaded, and from where."""

import ast
import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("vqtok", "service", "models", "training")
NOT_IN_THE_SERVICE = ("torch", "lightning_fabric", "models", "training")


@cache
def _imports() -> dict[str, set[str]]:
    """Of each file the packages that it imports anything of, within functions too."""
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            names: set[str] = set()
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Import):
                    names.update(alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    names.add(node.module or "")
            found[path.relative_to(ROOT).as_posix()] = {name.split(".")[0] for name in names}
    return found


def _files_that_import(module: str) -> set[str]:
    return {path for path, names in _imports().items() if module in names}


@pytest.mark.parametrize("entrance", ["service", "service.app", "service.__main__", "vqtok.cli"])
def test_the_serving_side_loads_no_torch_even_through_others(entrance: str) -> None:
    program = f"import sys, {entrance}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert entrance.split(".", maxsplit=1)[0] in loaded
    assert not set(loaded) & set(NOT_IN_THE_SERVICE)


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_the_one_of_this_checkout(package: str) -> None:
    assert Path(importlib.import_module(package).__file__ or "").is_relative_to(ROOT)


def test_one_file_runs_onnxruntime_and_another_uses_its_quantizer() -> None:
    assert _files_that_import("onnxruntime") == {"vqtok/runtime/onnx.py", "training/int8.py"}


def test_torch_stays_in_models_and_training() -> None:
    outside = {
        name
        for name in _files_that_import("torch") | _files_that_import("lightning_fabric")
        if name.split("/")[0] not in {"models", "training"}
    }
    assert outside <= {"vqtok/torch.py"}


def test_no_test_folder_hides_a_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
