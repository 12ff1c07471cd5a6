"""The CUDA engine: prepared batch sizes, captured CUDA graphs, inputs and outputs bound once.

The onnxruntime module is handed in: only `vqtok.runtime.onnx` imports it.
"""

import logging
import sys
import threading
from collections.abc import Sequence
from contextlib import redirect_stdout
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import ModelFailure, RuntimeUnavailable
from vqtok.manifest import Manifest
from vqtok.runtime.buckets import bucket_ladder, plan_buckets
from vqtok.runtime.engine import Encoded, GraphSource, known_outputs, require_images, require_tokens
from vqtok.runtime.sessions import first_line, runtime_errors, session_options

PROVIDER = "CUDAExecutionProvider"
BATCH_PIXELS = 1 << 20
MAX_BATCH_IMAGES = 128
TIMED_RUNS = 5
NO_GRAPH = "-1"

_log = logging.getLogger(__name__)


def is_listed(ort: Any) -> bool:
    """Whether this onnxruntime was built for CUDA; the machine may still have none."""
    return PROVIDER in ort.get_available_providers()


def open_cuda_engine(
    ort: Any, source: GraphSource, graph_sizes: Sequence[tuple[int, int]] = ()
) -> "CudaEngine":
    """Open both graphs on the first CUDA device, capture and time every prepared batch size.

    Raises:
        RuntimeUnavailable: this onnxruntime or this machine has no CUDA that really opens.
    """
    if not is_listed(ort):
        raise RuntimeUnavailable(
            "This onnxruntime has no CUDA. For a GPU: `pip install vqtok[gpu]`, after uninstalling "
            "onnxruntime."
        )
    # The wheels' CUDA libraries are found by this call, not by the loader's path. It prints what it
    # lacks, and standard output belongs to whoever uses vqtok.
    with redirect_stdout(sys.stderr):
        ort.preload_dlls()
    sizes = (source.manifest.image.native_size, *graph_sizes)
    errors = runtime_errors(ort)
    try:
        return _prepared(ort, source, sizes, capture=True)
    except errors as error:
        # Not every network can be captured, and some fail only at the first captured run.
        _log.warning("Running without CUDA graphs: %s", first_line(error))
    try:
        return _prepared(ort, source, sizes, capture=False)
    except errors as error:
        raise RuntimeUnavailable(f"CUDA cannot be used: {first_line(error)}") from error


def _prepared(
    ort: Any, source: GraphSource, sizes: Sequence[tuple[int, int]], *, capture: bool
) -> "CudaEngine":
    manifest = source.manifest
    encoder, decoder = (
        CudaGraph(ort, open_cuda_session(ort, source, file, capture=capture), name, capture=capture)
        for file, name in (("encoder.onnx", "pixels"), ("decoder.onnx", "tokens"))
    )
    engine = CudaEngine(manifest, encoder, decoder)
    for size in sizes:
        engine.prepare(size)
    return engine


def largest_bucket(size: tuple[int, int]) -> int:
    """Images of this (height, width) in the largest prepared batch, at least 1."""
    return max(1, min(MAX_BATCH_IMAGES, BATCH_PIXELS // (size[0] * size[1])))


class CudaEngine:
    """One device, one runner. Sizes that were prepared run as captured graphs, others without."""

    device = "cuda"
    num_runners = 1

    def __init__(self, manifest: Manifest, encoder: "CudaGraph", decoder: "CudaGraph") -> None:
        self.max_batch_images = largest_bucket(manifest.image.native_size)
        self._manifest = manifest
        self._encoder = encoder
        self._decoder = decoder

    def prepare(self, size: tuple[int, int]) -> None:
        """Capture and time all batch sizes for images of (height, width)."""
        grid = self._manifest.grid_of(*size)
        names = known_outputs(self._manifest)
        for bucket in bucket_ladder(largest_bucket(size)):
            images = np.zeros((bucket, *size, 3), np.uint8)
            tokens = np.zeros((bucket, *grid), np.int32)
            margins = np.zeros((bucket, *grid[:2]), np.float32)
            encoded = {name: tokens if name == "tokens" else margins for name in names}
            self._encoder.prepare(images, encoded)
            self._decoder.prepare(tokens, {"pixels": images})

    def encode(self, images: NDArray[np.uint8]) -> Encoded:
        require_images(images, self._manifest.image.factor)
        return Encoded(**self._encoder.run(images, known_outputs(self._manifest)))

    def decode(self, tokens: NDArray[np.int32]) -> NDArray[np.uint8]:
        require_tokens(tokens, self._manifest.depth)
        return self._decoder.run(tokens, ["pixels"])["pixels"]

    def close(self) -> None:
        self._encoder.close()
        self._decoder.close()


class CudaGraph:
    """One ONNX graph on the device, with the batches that were prepared for it."""

    def __init__(self, ort: Any, session: Any, input_name: str, *, capture: bool) -> None:
        self._ort = ort
        self._errors = runtime_errors(ort)
        self._input_name = input_name
        self._lock = threading.Lock()
        self._captures: dict[tuple[int, ...], _Capture] = {}
        self._seconds: dict[tuple[int, ...], dict[int, float]] = {}
        self._session: Any = session
        self._captures_graphs = capture

    def prepare(self, batch: NDArray[Any], outputs: dict[str, NDArray[Any]]) -> None:
        """Bind, capture and time a batch of this shape; `outputs` shows shapes and dtypes."""
        number = str(len(self._captures)) if self._captures_graphs else NO_GRAPH
        capture = _Capture(self._ort, self._session, number, (self._input_name, batch), outputs)
        times: list[float] = []
        for _ in range(2 + TIMED_RUNS):
            begin = perf_counter()
            capture.run(batch)
            times.append(perf_counter() - begin)
        self._captures[batch.shape] = capture
        self._seconds.setdefault(batch.shape[1:], {})[len(batch)] = median(times[2:])

    def run(self, batch: NDArray[Any], outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Outputs by name for a batch of any size; padding never comes back."""
        with self._lock:
            try:
                seconds = self._seconds.get(batch.shape[1:])
                if seconds is None:
                    return self._run_unprepared(batch, outputs)
                return self._run_in_buckets(batch, plan_buckets(len(batch), seconds))
            except self._errors as error:
                raise ModelFailure(f"onnxruntime failed: {first_line(error)}") from error

    def close(self) -> None:
        self._captures.clear()
        self._session = None

    def _run_in_buckets(
        self, batch: NDArray[Any], buckets: Sequence[int]
    ) -> dict[str, NDArray[Any]]:
        parts: list[dict[str, NDArray[Any]]] = []
        start = 0
        for bucket in buckets:
            part = batch[start : start + bucket]
            padded = np.zeros((bucket, *batch.shape[1:]), batch.dtype)
            padded[: len(part)] = part
            results = self._captures[padded.shape].run(padded)
            parts.append({name: array[: len(part)] for name, array in results.items()})
            start += bucket
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run_unprepared(
        self, batch: NDArray[Any], outputs: Sequence[str]
    ) -> dict[str, NDArray[Any]]:
        binding = self._session.io_binding()
        binding.bind_cpu_input(self._input_name, np.ascontiguousarray(batch))
        for name in outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding, _run_options(self._ort, NO_GRAPH))
        return dict(zip(outputs, binding.copy_outputs_to_cpu(), strict=True))


class _Capture:
    """Device buffers at fixed addresses for one shape, which a captured graph needs."""

    def __init__(
        self,
        ort: Any,
        session: Any,
        number: str,
        feed: tuple[str, NDArray[Any]],
        outputs: dict[str, NDArray[Any]],
    ) -> None:
        self._session: Any = session
        self._options = _run_options(ort, number)
        self._binding = session.io_binding()
        self._input = ort.OrtValue.ortvalue_from_numpy(feed[1], "cuda", 0)
        self._binding.bind_ortvalue_input(feed[0], self._input)
        self._outputs: dict[str, Any] = {}
        for name, example in outputs.items():
            value = ort.OrtValue.ortvalue_from_shape_and_type(
                list(example.shape), example.dtype.type, "cuda", 0
            )
            self._outputs[name] = value
            self._binding.bind_ortvalue_output(name, value)

    def run(self, batch: NDArray[Any]) -> dict[str, NDArray[Any]]:
        self._input.update_inplace(batch)
        self._session.run_with_iobinding(self._binding, self._options)
        return {name: value.numpy() for name, value in self._outputs.items()}


def open_cuda_session(ort: Any, source: GraphSource, file: str, *, capture: bool = False) -> Any:
    """A CUDA session on one of a source's graphs, its runs to be captured or not.

    Raises:
        RuntimeUnavailable: it became a CPU session.
    """
    provider_options = {
        "device_id": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "1" if source.manifest.precision == "tf32" else "0",
        "enable_cuda_graph": "1" if capture else "0",
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "1",
    }
    session = ort.InferenceSession(
        source.read(file),
        session_options(ort),
        providers=[(PROVIDER, provider_options), "CPUExecutionProvider"],
    )
    # A session that asked for CUDA in vain is a CPU session and says so only here.
    if session.get_providers()[0] != PROVIDER:
        raise RuntimeUnavailable(
            "CUDA is listed but does not open: driver, CUDA or cuDNN libraries are missing. "
            "`pip install vqtok[gpu]` brings the libraries; the driver is the machine's."
        )
    return session


def _run_options(ort: Any, graph_id: str) -> Any:
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", graph_id)
    return options
