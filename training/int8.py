"""Graphs whose convolutions compute in eight bits, which is about twice as fast on a processor.

The first and the last convolution stay in float32: they make up a small part of the work, and the
encoder's last decides the tokens.
"""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from training.graphs import without_traces

Feed = Mapping[str, NDArray[Any]]


class _Reader(CalibrationDataReader):
    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:  # type: ignore[override]
        return next(self._feeds, None)


def in_int8(graph: bytes, feeds: Sequence[Feed]) -> bytes:
    """The same graph with its convolutions in int8, activations in uint8, but the first and last.

    `feeds` are inputs by name, from which the ranges of activations are taken (all but one in
    100,000 of their values).

    Raises:
        ValueError: there are fewer than three convolutions.
    """
    model = onnx.load_from_string(graph)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    if len(convolutions) < 3:
        raise ValueError(f"nothing to gain: the graph has {len(convolutions)} convolutions")
    with tempfile.TemporaryDirectory() as folder, _quietly():
        source, target = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(graph)
        quantize_static(
            str(source),
            str(target),
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[convolutions[0], convolutions[-1]],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
        )
        return without_traces(onnx.load(target))


def constants(graph: bytes) -> dict[str, NDArray[Any]]:
    """The scales and zero points of an int8 graph, by name: what its tokens depend on beside the
    weights.
    """
    found = (
        each
        for each in onnx.load_from_string(graph).graph.initializer
        if each.name.endswith(("_scale", "_zero_point"))
    )
    return {f"int8.{each.name}": np.asarray(onnx.numpy_helper.to_array(each)) for each in found}


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what the calibrator prints, and the advice that the quantizer gives on every call."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.root.setLevel(level)
