"""The one file that imports onnxruntime, and only when it is used."""

import hashlib
import importlib.metadata
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidParameter, ModelFailure, RuntimeUnavailable
from vqtok.priors import Prior, TablePrior
from vqtok.priors.spec import PRIOR_FILE
from vqtok.reference import Reference
from vqtok.runtime import cuda
from vqtok.runtime.cores import usable_cores
from vqtok.runtime.engine import (
    Encoded,
    Engine,
    GraphSource,
    known_outputs,
    require_images,
    require_tokens,
)
from vqtok.runtime.learned_prior import OnnxPrior, PriorSession
from vqtok.runtime.machine import graphics_card, processor, runtime_text
from vqtok.runtime.sessions import first_line, open_session, runtime_errors, session_options
from vqtok.runtime.signature import Port, Signature

DEVICES = ("auto", "cpu", "cuda")
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
CPU_BATCH_IMAGES = 8
CUDA_PRIOR_ROWS = 16

_DTYPES = {
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
}

_log = logging.getLogger(__name__)


def open_engine(
    source: GraphSource,
    device: str = "auto",
    *,
    num_threads: int | None = None,
    graph_sizes: Sequence[tuple[int, int]] = (),
) -> Engine:
    """Open the graphs of a bundle, or of another source, on a device.

    `device` is "cpu", "cuda", or "auto", which takes CUDA only when a CUDA session really opens
    and says in the log when it does not. `num_threads` is the number of runners on the CPU, by
    default the usable cores. On CUDA every (height, width) of `graph_sizes` gets captured graphs
    beside the native size.

    Raises:
        RuntimeUnavailable: no onnxruntime, two of them, or device "cuda" does not open.
        BundleCorrupt: a graph does not load.
        InvalidParameter: no such device, or fewer than one thread.
    """
    if device not in DEVICES:
        raise InvalidParameter(f"device is one of {', '.join(DEVICES)}, not {device!r}.")
    if num_threads is not None and num_threads < 1:
        raise InvalidParameter("num_threads is at least 1.")
    ort = load_runtime()
    if device != "cpu":
        try:
            return cuda.open_cuda_engine(ort, source, graph_sizes)
        except RuntimeUnavailable as error:
            if device == "cuda":
                raise
            # An onnxruntime without CUDA was chosen by whoever installed it: no cause for alarm.
            level = logging.WARNING if cuda.is_listed(ort) else logging.INFO
            _log.log(level, "Running on the CPU: %s", error.detail)
    return CpuEngine(ort, source, num_threads or usable_cores())


def prior_of(source: GraphSource, reference: Reference, device: str) -> Prior:
    """The learned prior of a bundle on "cpu" or "cuda"; the table of its reference where there is
    none.

    Raises:
        RuntimeUnavailable: no onnxruntime, or no such device. BundleCorrupt: it does not load.
    """
    manifest = source.manifest
    if manifest.prior is None:
        return TablePrior(reference.position_counts, reference.usage)
    ort = load_runtime()
    graph = source.read(PRIOR_FILE)
    if device == "cuda":
        session, num_rows = cuda.open_cuda_session(ort, source, PRIOR_FILE), CUDA_PRIOR_ROWS
        hardware = graphics_card()
    else:
        session = open_session(ort, graph, PRIOR_FILE, session_options(ort))
        # Here a row takes the same time alone as among others.
        num_rows, hardware = 1, processor()
    opened = PriorSession(
        session,
        runtime_errors(ort),
        num_rows,
        hashlib.sha256(graph).hexdigest(),
        runtime_text(ort.__version__, session.get_providers()[0], num_rows, hardware),
    )
    return OnnxPrior(opened, manifest, manifest.prior)


def load_runtime() -> Any:
    """The onnxruntime module, its telemetry switched off.

    Raises:
        RuntimeUnavailable: neither or both of its distributions are installed.
    """
    installed = [name for name in DISTRIBUTIONS if _is_installed(name)]
    if len(installed) > 1:
        raise RuntimeUnavailable(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files. "
            "Uninstall both, then install one: `pip install vqtok[cpu]` or `… vqtok[gpu]`."
        )
    # Read when the library is loaded; without it the Linux wheels send usage data.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime  # pyright: ignore[reportMissingTypeStubs] it has none
    except ImportError as error:
        raise RuntimeUnavailable(
            f"onnxruntime cannot be imported ({error}). Install one: `pip install vqtok[cpu]` "
            "or `pip install vqtok[gpu]`."
        ) from error
    return onnxruntime


def read_signature(graph: bytes, file: str) -> Signature:
    """Inputs and outputs of an ONNX graph.

    Raises:
        BundleCorrupt: naming `file`, when it does not load.
        RuntimeUnavailable: no onnxruntime.
    """
    ort = load_runtime()
    options = session_options(ort)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = open_session(ort, graph, file, options)
    return Signature(
        tuple(_port(node) for node in session.get_inputs()),
        tuple(_port(node) for node in session.get_outputs()),
    )


class CpuEngine:
    """One session a graph, called by one thread a core; results do not depend on the batch."""

    device = "cpu"
    max_batch_images = CPU_BATCH_IMAGES

    def __init__(self, ort: Any, source: GraphSource, num_runners: int) -> None:
        self.num_runners = num_runners
        self._manifest = source.manifest
        self._errors = runtime_errors(ort)
        options = session_options(ort)
        self._encoder = open_session(ort, source.read("encoder.onnx"), "encoder.onnx", options)
        self._decoder = open_session(ort, source.read("decoder.onnx"), "decoder.onnx", options)

    def encode(self, images: NDArray[np.uint8]) -> Encoded:
        require_images(images, self._manifest.image.factor)
        names = known_outputs(self._manifest)
        arrays = self._run(self._encoder, names, {"pixels": images})
        return Encoded(**dict(zip(names, arrays, strict=True)))

    def decode(self, tokens: NDArray[np.int32]) -> NDArray[np.uint8]:
        require_tokens(tokens, self._manifest.depth)
        return self._run(self._decoder, ["pixels"], {"tokens": tokens})[0]

    def close(self) -> None:
        self._encoder = self._decoder = None

    def _run(self, session: Any, outputs: Sequence[str], feed: dict[str, NDArray[Any]]) -> Any:
        try:
            return session.run(list(outputs), feed)
        except self._errors as error:
            raise ModelFailure(f"onnxruntime failed: {first_line(error)}") from error


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _port(node: Any) -> Port:
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return Port(node.name, _DTYPES.get(node.type, str(node.type)), shape or None)
