"""The requirements say all that is needed, hashed, and nothing about where it comes from."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HASHED = ("serve-cpu", "serve-gpu", "dev")
TORCH_BRINGS = ("torch", "triton", "nvidia-", "cuda-")


def _pins(use: str) -> dict[str, str]:
    """Package -> the rest of its entry: version, marker, hashes."""
    text = (ROOT / f"requirements/{use}.txt").read_text().replace("\\\n", " ")
    return dict(re.findall(r"(?m)^([a-z0-9._-]+)(?:\[[^]]*])?==(.+)$", text))


def _names(requirements: list[str]) -> set[str]:
    return {
        match[0].lower().replace("_", "-").replace(".", "-")
        for requirement in requirements
        if (match := re.match(r"[A-Za-z0-9._-]+", requirement))
    }


def _project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("use", HASHED)
def test_every_pin_has_a_hash_and_no_line_names_a_place(use: str) -> None:
    pins = _pins(use)
    assert len(pins) > 30
    assert all("--hash=sha256:" in entry for entry in pins.values())
    text = (ROOT / f"requirements/{use}.txt").read_text()
    assert not re.search(r"(?m)^-|://|find-links|index", text)


@pytest.mark.parametrize("use", ["serve-cpu", "serve-gpu"])
def test_the_service_installs_no_torch_and_one_runtime(use: str) -> None:
    pins = _pins(use)
    assert not {name for name in pins if name.startswith(("torch", "triton", "lightning"))}
    assert {name for name in pins if name.startswith("onnxruntime")} == {
        {"serve-cpu": "onnxruntime", "serve-gpu": "onnxruntime-gpu"}[use]
    }


def test_dev_leaves_to_others_what_depends_on_the_machine() -> None:
    assert not {name for name in _pins("dev") if name.startswith((*TORCH_BRINGS, "onnxruntime"))}
    assert re.fullmatch(r"torch==[\d.]+\n", (ROOT / "requirements/torch.txt").read_text())


def test_the_files_agree_on_every_version() -> None:
    versions: dict[str, set[str]] = {}
    for use in HASHED:
        for name, entry in _pins(use).items():
            versions.setdefault(name, set()).add(entry.split()[0])
    assert not {name: found for name, found in versions.items() if len(found) > 1}


def test_they_cover_what_the_project_declares() -> None:
    match _project():
        case {
            "project": {"dependencies": [*library]},
            "dependency-groups": {"service": [*service], "training": [*training]},
        }:
            pass
        case _:
            pytest.fail("pyproject.toml lacks a table")
    assert _names(library) | _names(service) <= set(_pins("serve-cpu"))
    assert _names(library) | _names(service) <= set(_pins("serve-gpu"))
    assert _names(library) | _names(service) | _names(training) - {"torch"} <= set(_pins("dev"))


def _imported(folder: str) -> set[str]:
    """Top-level names of what a folder's files import, wherever in the file."""
    names: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"vqtok", "service", "models", "training"}


@pytest.mark.parametrize(
    ("folder", "groups"),
    [
        ("vqtok", []),
        ("service", ["service", "traces"]),
        ("models", ["training"]),
        ("training", ["training"]),
    ],
)
def test_what_a_package_imports_is_declared_for_it(folder: str, groups: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = _names(project["project"]["dependencies"])
    for extra in ("cpu", "bench"):
        declared |= _names(project["project"]["optional-dependencies"][extra])
    for group in groups:
        declared |= _names(project["dependency-groups"][group])
    distributions = packages_distributions()
    unknown = {
        name for name in _imported(folder) if not _names(distributions.get(name, [])) & declared
    }
    assert not unknown
