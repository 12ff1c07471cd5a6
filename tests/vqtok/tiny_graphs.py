"""ONNX graphs of a tiny model, made of numpy weights: no training, no torch.

Encoder: uint8 NHWC -> convolutions of stride 2 -> one product with the code table -> TopK, which
gives tokens and margins. Decoder: Gather -> convolution -> DepthToSpace -> convolution -> uint8.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.vqtok.tiny_model import TinyModel, Weights

TINY_LABELS = ("dots", "lines")


def encoder_graph(model: TinyModel, weights: Weights) -> bytes:
    """The encoder's ONNX file."""
    table = weights["codebook"]
    graph = _Graph()
    x = graph.add("Cast", "pixels", to=TensorProto.FLOAT)
    x = graph.add("Mul", x, graph.constant(np.float32(1 / 127.5)))
    x = graph.add("Sub", x, graph.constant(np.float32(1)))
    x = graph.add("Transpose", x, perm=[0, 3, 1, 2])
    for i in range(model.factor.bit_length() - 1):
        kernel = graph.constant(weights[f"encoder.{i}"])
        x = graph.add("Conv", x, kernel, strides=[2, 2], pads=[1, 1, 1, 1])
        x = graph.add("Relu", x)
    x = graph.add("Conv", x, graph.constant(weights["encoder.out"]), pads=[1, 1, 1, 1])
    x = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    split = np.array([0, 0, 0, model.depth, 1, model.code_dim], np.int64)
    x = graph.add("Reshape", x, graph.constant(split))
    x = graph.add("MatMul", x, graph.constant(table.transpose(0, 2, 1)))
    bias = (table**2).sum(-1) / 2
    x = graph.add("Sub", x, graph.constant(bias[:, None, :]))
    values, indices = graph.add_many("TopK", 2, x, graph.constant(np.array([2], np.int64)))
    # Both are (N, h, w, depth, 1, 2): the last axis holds the best and the second.
    best, second = graph.pick(values, 0), graph.pick(values, 1)
    sizes = graph.add("Add", graph.add("Abs", best), graph.add("Abs", second))
    margins = graph.add("Div", graph.add("Sub", best, second), sizes)
    graph.add("ReduceMin", margins, graph.constant(np.array([3], np.int64)), name="margins",
              keepdims=0)  # fmt: skip
    tokens = graph.add("Cast", graph.pick(indices, 0), to=TensorProto.INT32)
    axes = graph.constant(np.array([3], np.int64))
    last = ("Identity", tokens) if model.depth > 1 else ("Squeeze", tokens, axes)
    graph.add(*last, name="tokens")
    tail = [model.depth] if model.depth > 1 else []
    return graph.save(
        [("pixels", TensorProto.UINT8, ["N", "H", "W", 3])],
        [("tokens", TensorProto.INT32, ["N", "h", "w", *tail]),
         ("margins", TensorProto.FLOAT, ["N", "h", "w"])],
    )  # fmt: skip


def decoder_graph(model: TinyModel, weights: Weights) -> bytes:
    """The decoder's ONNX file."""
    graph = _Graph()
    tokens = "tokens"
    if model.depth > 1:
        first_codes = np.arange(model.depth, dtype=np.int32) * model.codebook_size
        tokens = graph.add("Add", tokens, graph.constant(first_codes))
    table = weights["codebook"].reshape(-1, model.code_dim)
    x = graph.add("Gather", graph.constant(table), tokens, axis=0)
    if model.depth > 1:
        x = graph.add("ReduceSum", x, graph.constant(np.array([3], np.int64)), keepdims=0)
    x = graph.add("Transpose", x, perm=[0, 3, 1, 2])
    x = graph.add("Conv", x, graph.constant(weights["decoder.in"]), pads=[1, 1, 1, 1])
    x = graph.add("DepthToSpace", x, blocksize=model.factor)
    x = graph.add("Conv", x, graph.constant(weights["decoder.out"]), pads=[1, 1, 1, 1])
    x = graph.add("Add", x, graph.constant(np.float32(0.5)))
    x = graph.add("Mul", x, graph.constant(np.float32(255)))
    x = graph.add("Round", x)
    x = graph.add("Clip", x, graph.constant(np.float32(0)), graph.constant(np.float32(255)))
    x = graph.add("Cast", x, to=TensorProto.UINT8)
    graph.add("Transpose", x, perm=[0, 2, 3, 1], name="pixels")
    tail = [model.depth] if model.depth > 1 else []
    return graph.save(
        [("tokens", TensorProto.INT32, ["N", "h", "w", *tail])],
        [("pixels", TensorProto.UINT8, ["N", "H", "W", 3])],
    )


def prior_graph(model: TinyModel) -> bytes:
    """A prior in which every known token speaks for some codes, everywhere alike."""
    rng = np.random.default_rng([model.seed, 1])
    codes, num = model.codebook_size, int(np.prod(model.grid))

    def table(rows: int) -> NDArray[np.float32]:
        return (1.5 * rng.standard_normal((rows, codes))).astype(np.float32)

    graph = _Graph()
    known = graph.add("Gather", graph.constant(3 * table(codes + 1)), "tokens", axis=0)
    axes = graph.constant(np.array([1], np.int64))
    known = graph.add("ReduceMean", known, axes, keepdims=0)
    label = graph.add("Gather", graph.constant(table(len(TINY_LABELS) + 1)), "labels", axis=0)
    everywhere = graph.add("Unsqueeze", graph.add("Add", known, label), axes)
    place = graph.add("Gather", graph.constant(table(num)), "positions", axis=0)
    graph.add("Add", place, everywhere, name="logits")
    return graph.save(
        [("tokens", TensorProto.INT32, ["N", num]), ("labels", TensorProto.INT32, ["N"]),
         ("positions", TensorProto.INT32, ["N", "P"])],
        [("logits", TensorProto.FLOAT, ["N", "P", codes])],
    )  # fmt: skip


class _Graph:
    """Collects nodes in order; every node's output gets a name of its own."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def add(self, kind: str, *inputs: str, name: str | None = None, **options: Any) -> str:
        name = name or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **options))
        return name

    def add_many(self, kind: str, count: int, *inputs: str) -> list[str]:
        names = [f"n{len(self._nodes)}.{i}" for i in range(count)]
        self._nodes.append(helper.make_node(kind, list(inputs), names))
        return names

    def pick(self, array: str, index: int) -> str:
        """(N, h, w, depth, 1, 2) -> (N, h, w, depth)."""
        column = self.add("Gather", array, self.constant(np.array(index, np.int64)), axis=5)
        return self.add("Squeeze", column, self.constant(np.array([4], np.int64)))

    def save(self, inputs: list[Any], outputs: list[Any]) -> bytes:
        ports = [[helper.make_tensor_value_info(*port) for port in side]
                 for side in (inputs, outputs)]  # fmt: skip
        graph = helper.make_graph(self._nodes, "tiny", ports[0], ports[1], self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
        model.ir_version = 10
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)
