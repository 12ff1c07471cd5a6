"""Settings: one table gives flags, environment and help; a wrong value is one clear sentence."""

import os
import re
import subprocess
import sys

import pytest

from service.routes.models import LIMITS
from service.settings import (
    InvalidSettings,
    Settings,
    environment_variable,
    flag,
    read_settings,
)
from tests.service.process import ROOT


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(environment_variable(name), raising=False)


def _service(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *flags],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_help_has_a_line_for_every_setting() -> None:
    shown = _service("--help")
    assert shown.returncode == 0
    for name in Settings.model_fields:
        assert f"{flag(name)} " in shown.stdout
        assert f"[{environment_variable(name)}" in shown.stdout.replace("\n", " ")


def test_a_flag_wins_over_the_environment_and_that_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read_settings([]).max_requests == 256
    monkeypatch.setenv("VQTOK_MAX_REQUESTS", "7")
    assert read_settings([]).max_requests == 7
    assert read_settings(["--max-requests", "9"]).max_requests == 9


def test_it_binds_loopback_unless_told_otherwise() -> None:
    assert read_settings([]).host == "127.0.0.1"


def test_sizes_are_read_from_text() -> None:
    settings = read_settings(["--graph-sizes", "256x256, 512x384"])
    assert settings.graph_sizes == ((256, 256), (512, 384))
    assert read_settings([]).graph_sizes == ()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--max-requests", "0"], ["--max-requests", "VQTOK_MAX_REQUESTS", "'0'"]),
        (["--max-requests", "many"], ["--max-requests", "'many'"]),
        (["--device", "tpu"], ["--device", "VQTOK_DEVICE", "'tpu'"]),
        (["--port", "70000"], ["--port", "65535"]),
        (["--graph-sizes", "big"], ["--graph-sizes", "256x256"]),
        (["--max-pixels", "100000000"], ["--max-request-pixels", "--max-pixels"]),
        (["--max-body-bytes", "999999999999"], ["--max-total-body-bytes"]),
        (["--threads", ""], ["--threads"]),
        (["--key-share", "0.5"], ["--key-share", "--api-keys-file"]),
        (["--key-share", "2", "--api-keys", "a"], ["--key-share"]),
        (["--cors-origins", "page.example"], ["--cors-origins", "scheme://host"]),
        (["--recent-images", "15"], ["--recent-images", "16"]),
        (["--long-images", "1000"], ["--long-images", "multiple", "--recent-images (64)"]),
        (["--metrics-port", "8000"], ["--metrics-port", "--port"]),
        (["--metrics-port", "9", "--metrics", "false"], ["--metrics-port", "--metrics"]),
    ],
)
def test_a_value_that_cannot_be_used_is_named(flags: list[str], words: list[str]) -> None:
    with pytest.raises(InvalidSettings) as caught:
        read_settings(flags)
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence
    assert "Traceback" not in sentence


def test_invalid_settings_end_the_process_with_status_2() -> None:
    ended = _service("--max-requests", "-1")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert _service("--no-such-flag", "1").returncode == 2
    assert _service(VQTOK_DRAIN_SECONDS="soon").returncode == 2
    keys = _service("--api-keys-file", "/no/such/file")
    assert keys.returncode == 2
    assert keys.stderr == "/no/such/file cannot be read: No such file or directory.\n"


def test_an_address_that_is_taken_ends_the_process_with_status_1() -> None:
    ended = _service("--host", "203.0.113.1", "--port", "1")
    assert ended.returncode == 1
    assert "cannot listen on 203.0.113.1 port 1" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_table_of_limits_has_each_of_them_with_its_default() -> None:
    table = (ROOT / "docs/operating.md").read_text()
    rows = re.findall(r"(?m)^\| `(\w+)` \| ([0-9,]+) \|", table)
    documented = {name: float(value.replace(",", "")) for name, value in rows}
    assert documented == {name: Settings.model_fields[name].default for name in LIMITS}
