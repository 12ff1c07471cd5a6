"""Opening onnxruntime sessions. The module is handed in: only `vqtok.runtime.onnx` imports it."""

from typing import Any, cast

from vqtok.errors import BundleCorrupt

_LOG_ERRORS_ONLY = 3


def session_options(ort: Any) -> Any:
    """Options for one caller thread a core: no threads of onnxruntime's own, nothing spinning.

    All CPU sessions share one arena. Measured with tiles of many shapes in two threads: an arena a
    session holds half as much again, and none at all, whose pages come fresh from the system for
    every tile, takes a fifth more time and peaks higher. Memory patterns would be kept for every
    shape ever seen.
    """
    _share_arena(ort)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = False
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def open_session(ort: Any, graph: bytes, file: str, options: Any) -> Any:
    """A CPU session on the bytes of a graph.

    Raises:
        BundleCorrupt: naming `file`, when the graph does not load.
    """
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except runtime_errors(ort) as error:
        raise BundleCorrupt(f"{file} does not load in onnxruntime: {first_line(error)}") from None


def _share_arena(ort: Any) -> None:
    """Register the arena of `session.use_env_allocators`; again does no harm."""
    kind, default = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
    ort.create_and_register_allocator(ort.OrtMemoryInfo("Cpu", kind, 0, default), None)


def runtime_errors(ort: Any) -> tuple[type[Exception], ...]:
    """What onnxruntime raises: classes of its own, without a common base, and RuntimeError."""
    own = cast("dict[str, Any]", ort.capi.onnxruntime_pybind11_state.__dict__)
    classes = [c for c in own.values() if isinstance(c, type) and issubclass(c, Exception)]
    return (*classes, RuntimeError)


def first_line(error: Exception) -> str:
    """The reason without the graph dump that may follow it."""
    return (str(error).splitlines() or [type(error).__name__])[0]
