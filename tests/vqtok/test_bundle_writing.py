"""Writing a bundle: the same bytes again, and whole or not at all."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.vqtok.spoilt_bundle import prove
from tests.vqtok.tiny_bundle import tiny_files, write_tiny_bundle
from tests.vqtok.tiny_model import TinyModel
from vqtok.bundle import Bundle, write_bundle


def test_equal_inputs_give_equal_bundles(tmp_path: Path) -> None:
    one, other = write_tiny_bundle(tmp_path / "a"), write_tiny_bundle(tmp_path / "b")
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {
        p.name: p.read_bytes() for p in other.iterdir()
    }


def test_an_existing_folder_is_kept_unless_replace_is_asked_for(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path, seed=1)
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(FileExistsError):
        write_tiny_bundle(tmp_path, seed=2)
    assert (folder / "manifest.json").read_bytes() == before
    write_tiny_bundle(tmp_path, seed=2, replace=True)
    assert (folder / "manifest.json").read_bytes() != before
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny"]
    prove(folder)


def test_an_incomplete_bundle_is_not_written(tmp_path: Path) -> None:
    manifest, files = tiny_files(TinyModel())
    del files["decoder.onnx"]
    with pytest.raises(ValueError, match=r"decoder\.onnx"):
        write_bundle(tmp_path / "tiny", manifest, files)
    assert not list(tmp_path.iterdir())


WRITER = """
    import sys
    from pathlib import Path
    from tests.vqtok.tiny_bundle import tiny_files
    from tests.vqtok.tiny_model import TinyModel
    from vqtok.bundle import write_bundle

    contents = [tiny_files(TinyModel(seed=seed)) for seed in (1, 2)]
    print("ready", flush=True)
    while True:
        for manifest, files in contents:
            write_bundle(Path(sys.argv[1]), manifest, files, replace=True)
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_bundle(tmp_path: Path) -> None:
    target = tmp_path / "tiny"
    target_ids = set[str]()
    for wait in (0.001, 0.01, 0.02, 0.03, 0.05):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(target)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        process.stdout.readline()
        while not target.exists():
            os.sched_yield()
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        prove(target)
        target_ids.add(Bundle.open(target).manifest.tokenizer_id)
    assert target_ids
