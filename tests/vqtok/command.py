"""Runs the command `vqtok` and keeps what it wrote."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from vqtok.cli import main


@dataclass(frozen=True)
class Done:
    status: int
    stdout: str
    stderr: str


class Command:
    """Runs `vqtok` in a folder and keeps what it wrote."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Done:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        written = self._capsys.readouterr()
        return Done(int(ended.value.code or 0), written.out, written.err)

    def succeed(self, *arguments: object) -> str:
        done = self(*arguments)
        assert done.status == 0, done.stderr
        return done.stdout

    def fail(self, status: int, *arguments: object) -> str:
        """What it says on stderr, in one line."""
        done = self(*arguments)
        assert done.status == status, done.stderr
        assert done.stdout == ""
        return " ".join(done.stderr.split())
