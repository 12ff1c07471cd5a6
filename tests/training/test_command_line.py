"""The command line: what it says, and that a user's mistake is one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

import training.__main__ as command_line
from tests.training.tiny import tiny_table
from training.results import read_result
from vqtok.bundle import Bundle

ROOT = Path(__file__).parents[2]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """The exit status of `python -m training …`, run in this process."""
    monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    return int(ended.value.code or 0)


@pytest.fixture
def config(tmp_path: Path, made_images: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(tomli_w.dumps(tiny_table("vq", made_images)))
    return path


def test_the_help_names_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    for command in ("train", "evaluate", "export", "compare", "report"):
        assert f" {command} " in shown


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("train", ["--output", "--set", "--threads", "--fresh"]),
        ("evaluate", ["--split", "--data"]),
        ("compare", ["--work", "--order", "--set", "--threads", "--report-only"]),
        ("judge-samples", ["--work", "--set", "--threads"]),
        ("export", ["--output", "--version", "--beside", "--photograph", "--replace"]),
    ],
)
def test_the_help_of_a_command_names_its_options(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    options: list[str],
) -> None:
    assert call(monkeypatch, command, "--help") == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in options)


def test_a_run_is_trained_overridden_and_evaluated(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    config: Path,
    tmp_path: Path,
) -> None:
    output = tmp_path / "run"
    arguments = ["train", config, "--output", output, "--threads", "1", "--set", "seed=5"]
    assert call(monkeypatch, *arguments) == 0
    assert "perplexity" in capsys.readouterr().out
    result = read_result(output)
    assert (result["seed"], result["steps"]) == (5, 8)
    assert call(monkeypatch, "evaluate", output) == 0
    shown = capsys.readouterr().out
    assert f"{result['metrics']['validation']['mse'] * 1e3:.3f}"[:4] in shown


def test_a_bundle_is_evaluated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bundle: Bundle
) -> None:
    assert call(monkeypatch, "evaluate", bundle.folder, "--split", "test") == 0
    assert f"{bundle.manifest.metrics['test']['mse'] * 1e3:.3f}" in capsys.readouterr().out


MISTAKES = {
    "no configuration": (["train", "none.toml", "--output", "run"], "there is no configuration"),
    "a wrong key": (
        ["train", "tiny.toml", "--output", "run", "--set", "model.bogus=1"],
        "[model]: unknown key 'bogus'; it has `method`, [model.network]",
    ),
    "an unknown method": (
        ["train", "tiny.toml", "--output", "run", "--set", "model.method=wq"],
        "no quantizer is called 'wq'; there are vq, vq_ema, gmvq",
    ),
    "an unknown option": (
        ["train", "tiny.toml", "--output", "run", "--set", "model.quantizer.noise=off"],
        "vq has no option 'noise'",
    ),
    "no data": (
        ["train", "tiny.toml", "--output", "run", "--set", "data.folder=nowhere"],
        "no image in nowhere",
    ),
    "no comparison": (["compare", "none.toml"], "there is no configuration none.toml"),
    "a comparison that is none": (["compare", "tiny.toml"], "title: Field required; store: "),
    "a run that is none": (["evaluate", "."], "holds no finished run"),
    "an export of nothing": (["export", ".", "--output", "bundle"], "holds no finished run"),
    "a bundle that is there": (["export", ".", "--output", "tiny.toml"], "pass --replace"),
    "square brackets in a name": (["evaluate", "a[/b]"], "a[/b] holds no finished run"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_status_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    config: Path,
    mistake: str,
) -> None:
    arguments, sentence = MISTAKES[mistake]
    monkeypatch.chdir(config.parent)
    assert call(monkeypatch, *arguments) == 2
    shown = capsys.readouterr()
    [line] = [line for line in shown.err.splitlines() if not line.startswith("Using bfloat16")]
    assert line.startswith("error: ")
    assert sentence in line
    assert "Traceback" not in shown.out + shown.err


def test_a_broken_bundle_is_one_sentence_too(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bundle: Bundle,
    tmp_path: Path,
) -> None:
    for path in bundle.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "encoder.onnx").open("ab") as file:
        file.write(b"more")
    assert call(monkeypatch, "evaluate", tmp_path, "--split", "test") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: encoder.onnx is not the file")


@pytest.mark.slow
def test_a_program_that_fails_shows_no_traceback(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "training", "train", "none.toml", "--output", str(tmp_path / "run")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == "error: there is no configuration none.toml\n"
    assert ended.stdout == ""
    assert not (tmp_path / "run").exists()
