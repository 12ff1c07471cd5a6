"""A real bundle of a few kilobytes: ONNX graphs made of numpy weights, no training, no torch.

Encoder: uint8 NHWC -> convolutions of stride 2 -> one product with the code table -> TopK, which
gives tokens and margins. Decoder: Gather -> convolution -> DepthToSpace -> convolution -> uint8.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vqtok.bundle import codebook_npy, with_probe, write_bundle
from vqtok.identity import codebook_id, tokenizer_id
from vqtok.manifest import ImageSpec, Manifest
from vqtok.priors.spec import PriorSpec
from vqtok.reference import Reference
from vqtok.runtime.onnx import open_engine

WIDTH = 8
TINY_LABELS = ("dots", "lines")
Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class TinyModel:
    """Numbers of the tiny network; `factor` is a power of two."""

    factor: int = 4
    codebook_size: int = 32
    depth: int = 1
    code_dim: int = 4
    native_size: tuple[int, int] = (32, 32)
    seed: int = 0
    prior: bool = False

    @property
    def grid(self) -> tuple[int, ...]:
        """Tokens of a native image."""
        tail = (self.depth,) if self.depth > 1 else ()
        return (*(side // self.factor for side in self.native_size), *tail)


def write_tiny_bundle(
    folder: Path, name: str = "tiny", *, replace: bool = False, **options: Any
) -> Path:
    """Write a bundle of native size 32x32 into `folder` / `name` and return its path; `options` are
    numbers of `TinyModel`.
    """
    model = TinyModel(**options)
    path = Path(folder) / name
    manifest, files = tiny_files(model, name)
    write_bundle(path, manifest, files, replace=replace)
    return path


def tiny_files(model: TinyModel, name: str = "tiny") -> tuple[Manifest, dict[str, bytes]]:
    """Manifest and files as `write_bundle` takes them, for tests that spoil one of them."""
    weights = tiny_weights(model)
    codebook = weights["codebook"] if model.depth > 1 else weights["codebook"][0]
    manifest = _manifest(model, name, weights)
    files = {
        "encoder.onnx": encoder_graph(model, weights),
        "decoder.onnx": decoder_graph(model, weights),
        "codebook.npy": codebook_npy(codebook),
        "card.md": f"# {name}\n\nRandom weights, for tests.\n".encode(),
    }
    if model.prior:
        files["prior.onnx"] = prior_graph(model)
    reference = _reference(InMemory(manifest, files), model.seed)
    return manifest, {**files, "reference.npz": reference.to_npz()}


def tiny_weights(model: TinyModel) -> Weights:
    """All weights from one seed."""
    rng = np.random.default_rng(model.seed)

    def conv(out_channels: int, in_channels: int) -> NDArray[np.float32]:
        scale = (4 / (9 * in_channels)) ** 0.5
        return (scale * rng.standard_normal((out_channels, in_channels, 3, 3))).astype(np.float32)

    strides = model.factor.bit_length() - 1
    latent = model.depth * model.code_dim
    weights = {f"encoder.{i}": conv(WIDTH, WIDTH if i else 3) for i in range(strides)}
    weights["encoder.out"] = 3 * conv(latent, WIDTH)
    codes = rng.standard_normal((model.depth, model.codebook_size, model.code_dim))
    weights["codebook"] = codes.astype(np.float32)
    weights["decoder.in"] = conv(3 * model.factor**2, model.code_dim)
    weights["decoder.out"] = 0.5 * conv(3, 3)
    return weights


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


def prior_spec(model: TinyModel) -> PriorSpec:
    """Two groups: the first half of the positions, the second half."""
    num = int(np.prod(model.grid))
    return PriorSpec(
        kind="masked",
        schedule="halves",
        groups=tuple(2 * i // num for i in range(num)),
        order=tuple(range(num)),
        any_order=True,
        labels=TINY_LABELS,
    )


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


def _manifest(model: TinyModel, name: str, weights: Weights) -> Manifest:
    parts = {side: {k: v for k, v in weights.items() if k.startswith(side)}
             for side in ("encoder", "decoder", "codebook")}  # fmt: skip
    return Manifest(
        name=name,
        version="1",
        method="vq",
        image=ImageSpec(channels=3, factor=model.factor, native_size=model.native_size),
        grid=model.grid,
        depth=model.depth,
        codebook_size=model.codebook_size,
        code_dim=model.code_dim,
        outputs=("tokens", "margins"),
        precision="fp32",
        encoder_halo=2 * model.factor,
        decoder_halo=2,
        codebook_id=codebook_id(parts["decoder"], weights["codebook"], model.depth),
        tokenizer_id=tokenizer_id(parts["encoder"] | parts["codebook"], {"rule": "vq"}, "fp32"),
        prior=prior_spec(model) if model.prior else None,
        memory={"encoder_bytes_per_pixel": 64.0, "decoder_bytes_per_pixel": 64.0},
    )


@dataclass(frozen=True)
class InMemory:
    """Graphs that no folder holds yet."""

    manifest: Manifest
    files: dict[str, bytes]

    def read(self, name: str) -> bytes:
        return self.files[name]


def _reference(source: InMemory, seed: int) -> Reference:
    """Tables from 64 smooth random images; the golden one has the largest smallest margin."""
    engine = open_engine(source, "cpu", num_threads=1)
    images = smooth_images(64, *source.manifest.image.native_size, seed=seed)
    encoded = engine.encode(images)
    golden = int(encoded.margins.reshape(len(images), -1).min(axis=1).argmax())
    tokens = encoded.tokens
    counts = (tokens[..., None] == np.arange(source.manifest.codebook_size)).sum(axis=0)
    reference = Reference(
        usage=counts.sum(axis=(0, 1)).astype(np.int64),
        position_counts=counts.astype(np.uint32),
        golden_image=images[golden],
        golden_tokens=tokens[golden],
        golden_margins=encoded.margins[golden],
        golden_reconstruction=engine.decode(tokens[golden : golden + 1])[0],
        **coder_arrays(tokens.reshape(*tokens.shape[:3], -1), source.manifest.codebook_size),
    )
    return with_probe(engine, reference)


def coder_arrays(tokens: NDArray[np.integer], codes: int, clusters: int = 4) -> dict[str, Any]:
    """The arrays of a reference that bitstreams are coded by, of tokens (n, h, w, depth)."""
    depth, sides = tokens.shape[3], clusters + 1
    of_code = np.tile(np.arange(codes, dtype=np.uint16) % clusters, (depth, 1))
    counts = np.zeros((depth, sides * sides, codes), np.uint32)
    around = np.full((len(tokens), tokens.shape[1] + 1, tokens.shape[2] + 1), clusters)
    for level in range(depth):
        around[:, 1:, 1:] = of_code[level][tokens[..., level]]
        contexts = around[:, 1:, :-1] * sides + around[:, :-1, 1:]
        np.add.at(counts[level], (contexts, tokens[..., level]), 1)
    return {
        "coder_clusters": of_code,
        "coder_context_counts": counts,
        "coder_smoothing": np.array([[16], [64], [32], [48]], np.int64).repeat(depth, axis=1),
    }


def smooth_images(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 (count, height, width, 3): noise at two scales, so that codes vary."""
    rng = np.random.default_rng([seed, height, width])
    coarse = rng.random((count, -(-height // 8), -(-width // 8), 3))
    fine = rng.random((count, height, width, 3))
    large = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    return np.round(255 * (0.7 * large + 0.3 * fine)).astype(np.uint8)
