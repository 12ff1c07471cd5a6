"""The ONNX engine on the CPU: same image, same tokens; no threads, files or imports unasked for."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.vqtok.tiny_bundle import smooth_images, write_tiny_bundle
from vqtok.bundle import Bundle
from vqtok.errors import InvalidInput, InvalidParameter, ModelFailure, RuntimeUnavailable
from vqtok.runtime.engine import Engine
from vqtok.runtime.onnx import load_runtime, open_engine

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return open_engine(bundle, "cpu")


def run_python(code: str, **environment: str) -> str:
    """Output of a program in a process of its own, with nothing of CI or telemetry in its
    environment.
    """
    hidden = ("CI", "ORT_DISABLE_TELEMETRY")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("size", [(4, 4), (32, 32), (20, 84)])
def test_tokens_of_a_batch_are_those_of_its_singles(engine: Engine, size: tuple[int, int]) -> None:
    images = smooth_images(9, *size)
    batch = engine.encode(images)
    for index in range(len(images)):
        single = engine.encode(images[index : index + 1])
        assert np.array_equal(single.tokens[0], batch.tokens[index])
        assert np.allclose(single.margins[0], batch.margins[index], atol=1e-5)


def test_outputs_have_the_types_and_shapes_of_the_contract(engine: Engine) -> None:
    encoded = engine.encode(smooth_images(2, 16, 24))
    assert (encoded.tokens.dtype, encoded.tokens.shape) == (np.int32, (2, 4, 6))
    assert (encoded.margins.dtype, encoded.margins.shape) == (np.float32, (2, 4, 6))
    assert encoded.quantisation_error is None
    assert encoded.posterior_entropy is None
    pictures = engine.decode(encoded.tokens)
    assert (pictures.dtype, pictures.shape) == (np.uint8, (2, 16, 24, 3))


def test_many_threads_get_the_tokens_of_their_own_images(engine: Engine) -> None:
    images = smooth_images(32, 32, 32)
    expected = engine.encode(images).tokens
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: engine.encode(images[i : i + 1]).tokens[0], range(32)))
    assert np.array_equal(np.stack(results), expected)


def test_a_session_starts_no_threads(bundle: Bundle) -> None:
    before = threads_of_this_process()
    engine = open_engine(bundle, "cpu", num_threads=4)
    engine.encode(smooth_images(1, 64, 64))
    assert threads_of_this_process() <= before
    engine.close()


def threads_of_this_process() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((1, 3, 32, 32), np.uint8),
        np.zeros((1, 30, 32, 3), np.uint8),
        np.zeros((0, 32, 32, 3), np.uint8),
        np.zeros((1, 0, 32, 3), np.uint8),
    ],
    ids=["float", "no batch axis", "channels first", "no multiple", "no image", "no pixel"],
)
def test_what_is_no_batch_of_images_is_refused(engine: Engine, images: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        engine.encode(images)


@pytest.mark.parametrize(
    "tokens",
    [
        np.zeros((1, 4, 4), np.int64),
        np.zeros((4, 4), np.int32),
        np.zeros((1, 4, 4, 2), np.int32),
        np.zeros((1, 0, 4), np.int32),
    ],
    ids=["int64", "no batch axis", "depth", "no token"],
)
def test_what_is_no_batch_of_tokens_is_refused(engine: Engine, tokens: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        engine.decode(tokens)


def test_a_failing_run_is_a_model_failure(engine: Engine) -> None:
    with pytest.raises(ModelFailure, match="onnxruntime failed"):
        engine.decode(np.full((1, 4, 4), 999, np.int32))


def test_an_unknown_device_or_thread_count_is_refused(bundle: Bundle) -> None:
    with pytest.raises(InvalidParameter, match="tpu"):
        open_engine(bundle, "tpu")
    with pytest.raises(InvalidParameter, match="num_threads"):
        open_engine(bundle, "cpu", num_threads=0)


def test_cuda_that_does_not_open_fails_and_auto_takes_the_cpu(bundle: Bundle) -> None:
    if "CUDAExecutionProvider" in load_runtime().get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(RuntimeUnavailable, match=r"vqtok\[gpu\]"):
        open_engine(bundle, "cuda")
    assert open_engine(bundle, "auto").device == "cpu"


def test_no_telemetry_leaves_a_file_in_an_empty_home(tmp_path: Path, bundle: Bundle) -> None:
    home = tmp_path / "home"
    home.mkdir()
    run_python(
        f"""
        import numpy as np, time
        from vqtok import bundle
        from vqtok.runtime.onnx import open_engine
        engine = open_engine(bundle.Bundle.open({str(bundle.folder)!r}), "cpu")
        engine.encode(np.zeros((1, 32, 32, 3), np.uint8))
        time.sleep(0.5)
        """,
        HOME=str(home),
        XDG_CACHE_HOME="",
    )
    assert list(home.rglob("*")) == []


def test_nothing_imports_onnxruntime_before_a_bundle_is_opened() -> None:
    printed = run_python(
        """
        import sys
        import vqtok.bundle, vqtok.cli, vqtok.client, vqtok.local, vqtok.tokenizer
        print([name for name in sys.modules if name.startswith("onnxruntime")])
        """
    )
    assert printed.strip() == "[]"


def test_without_a_runtime_opening_a_bundle_says_what_to_install(bundle: Bundle) -> None:
    printed = run_python(
        f"""
        import sys
        sys.modules["onnxruntime"] = None
        from vqtok.bundle import Bundle
        from vqtok.errors import RuntimeUnavailable
        try:
            Bundle.open({str(bundle.folder)!r})
        except RuntimeUnavailable as error:
            print(error.detail)
        """
    )
    assert "pip install vqtok[cpu]" in printed
    assert "pip install vqtok[gpu]" in printed


def test_both_runtimes_at_once_are_refused(tmp_path: Path, bundle: Bundle) -> None:
    for name in ("onnxruntime", "onnxruntime_gpu"):
        metadata = tmp_path / f"{name}-1.31.1.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.31.1\n")
    printed = run_python(
        f"""
        import sys
        sys.path.append({str(tmp_path)!r})
        from vqtok.errors import RuntimeUnavailable
        from vqtok.runtime.onnx import load_runtime
        try:
            load_runtime()
        except RuntimeUnavailable as error:
            print(error.detail)
        """
    )
    assert "both installed" in printed
