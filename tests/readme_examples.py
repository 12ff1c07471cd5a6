"""Runs the README's examples against the service on the shipped bundle.

`python -m tests.readme_examples` writes what they print into the README.
"""

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tests.service.process import ROOT, ServiceProcess

README = ROOT / "README.md"
ADDRESS = "127.0.0.1:8000"

CONSOLE = re.compile(r"(?ms)^```console\n(.*?)^```$")
COMMAND = re.compile(r"(?m)^\$ ((?:.*\\\n)*.*\n)((?:(?!\$ ).*\n)*)")
PYTHON = re.compile(r"(?ms)^```python\n(.*?)^```\n\n```text\n(.*?)^```$")


@dataclass(frozen=True)
class Example:
    """A command line, what the README says it prints, and where in the README that stands."""

    command: list[str]
    shown: str
    span: tuple[int, int]


def examples(text: str) -> list[Example]:
    """The commands of all console blocks, then the Python program; in the order they run in."""
    commands = (
        (["bash", "-c", match[1]], match)
        for block in CONSOLE.finditer(text)
        for match in COMMAND.finditer(text, *block.span(1))
    )
    programs = (([sys.executable, "-c", match[1]], match) for match in PYTHON.finditer(text))
    return [
        Example(command, match[2], match.span(2)) for command, match in chain(commands, programs)
    ]


def printed_by(example: Example, service: ServiceProcess, folder: Path) -> str:
    """What the example prints in `folder`, with `service` in place of the one it names.

    Raises:
        RuntimeError: it ends with an error; the message is what it said.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    address = f"127.0.0.1:{service.port}"
    command = [part.replace(ADDRESS, address) for part in example.command]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{example.command[-1]}\n{result.stdout}{result.stderr}")
    ends_open = result.stdout and not result.stdout.endswith("\n")
    return result.stdout.replace(address, ADDRESS) + ("\n" if ends_open else "")


def lay_out(folder: Path) -> Path:
    """Make `folder` look like the checkout to the examples, which may write into it."""
    for name in ("docs", "bundles"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def main() -> None:
    """Write into the README what its examples print."""
    text = README.read_text()
    with ServiceProcess([]) as service, tempfile.TemporaryDirectory() as name:
        service.wait_ready()
        folder = lay_out(Path(name))
        outputs = [(each.span, printed_by(each, service, folder)) for each in examples(text)]
    for (start, end), output in sorted(outputs, reverse=True):
        text = text[:start] + output + text[end:]
    README.write_text(text)


if __name__ == "__main__":
    main()
