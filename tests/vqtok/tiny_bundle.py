"""A real bundle of a few kilobytes: the graphs of a tiny model, and what a manifest and a reference
say of them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.vqtok.tiny_graphs import TINY_LABELS, decoder_graph, encoder_graph, prior_graph
from tests.vqtok.tiny_model import TinyModel, Weights, tiny_weights
from vqtok.bundle import codebook_npy, with_probe, write_bundle
from vqtok.identity import codebook_id, tokenizer_id
from vqtok.manifest import ImageSpec, Manifest
from vqtok.priors.spec import PriorSpec
from vqtok.reference import Reference
from vqtok.runtime.onnx import open_engine


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
