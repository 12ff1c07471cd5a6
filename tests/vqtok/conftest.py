"""The command `vqtok` in a folder of its own."""

from pathlib import Path

import pytest

from tests.vqtok.command import Command


@pytest.fixture
def vqtok(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("VQTOK_BUNDLE", "VQTOK_URL"):
        monkeypatch.delenv(name, raising=False)
    return Command(tmp_path, capsys)
