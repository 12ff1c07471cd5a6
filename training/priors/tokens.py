"""The tokens of a data set, made once by a bundle's encoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.priors import TokenShape
from training.data import Part, Splits, load_splits
from training.data.batches import whole_batches
from training.data.labels import Labels, load_labels
from training.progress import with_bar
from training.settings import DataSettings, SettingsError
from vqtok.bundle import Bundle
from vqtok.manifest import Manifest
from vqtok.runtime.engine import Engine
from vqtok.runtime.onnx import open_engine
from vqtok.tokens import token_dtype

Tokens = NDArray[np.unsignedinteger[Any]]
_BATCH = 100
_PARTS = ("train", "mirrored", "validation", "test")


@dataclass(frozen=True, eq=False)
class TokenPart:
    """tokens (n, N), the grids in raster order, depth last; labels int64 (n,)."""

    tokens: Tokens
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, eq=False)
class TokenSplits:
    """The splits of a data set as tokens. mirrored: the training images mirrored left to right,
    (n, N) as `train`, or of no rows where the settings do not mirror. codes: the table that the
    tokens index, float32 (K, D), None where levels have tables of their own.
    """

    shape: TokenShape
    label_names: tuple[str, ...]
    train: TokenPart
    mirrored: Tokens
    validation: TokenPart
    test: TokenPart
    codes: NDArray[np.float32] | None


def load_tokens(bundle: Bundle, data: DataSettings, kept_in: Path) -> TokenSplits:
    """The tokens of the data set, read from the file `kept_in` or made and kept there.

    Raises SettingsError where the file holds tokens of another tokenizer or other data.
    """
    splits, labels = load_splits(data), load_labels(data)
    arrays = _kept(kept_in, _origin(bundle.manifest, data))
    if arrays is None:
        arrays = _encoded(bundle, splits, mirror=data.flip)
        _keep(kept_in, arrays, _origin(bundle.manifest, data))
    return _assembled(bundle, splits, labels, arrays)


def _assembled(
    bundle: Bundle, splits: Splits, labels: Labels | None, arrays: dict[str, Tokens]
) -> TokenSplits:
    names, manifest = labels.names if labels else (), bundle.manifest
    shape = token_shape(manifest, len(names))
    parts = [
        TokenPart(arrays[name], _labels_of(part, None if labels is None else known))
        for name, part, known in (
            ("train", splits.train, labels and labels.train),
            ("validation", splits.validation, labels and labels.train),
            ("test", splits.test, labels and labels.test),
        )
    ]
    codes = bundle.codebook if manifest.depth == 1 else None
    return TokenSplits(shape, names, parts[0], arrays["mirrored"], parts[1], parts[2], codes)


def _labels_of(part: Part, labels: NDArray[np.int64] | None) -> NDArray[np.int64]:
    if labels is None:
        return np.zeros(len(part), np.int64)
    return labels[part.start : part.stop]


def _encoded(bundle: Bundle, splits: Splits, *, mirror: bool) -> dict[str, Tokens]:
    engine = open_engine(bundle, "cpu")
    try:
        train = splits.train
        return {
            "train": _tokens_of(engine, bundle.manifest, train, "tokens"),
            "mirrored": _tokens_of(
                engine, bundle.manifest, train if mirror else _none_of(train), "mirrored", flip=True
            ),
            "validation": _tokens_of(engine, bundle.manifest, splits.validation, "validation"),
            "test": _tokens_of(engine, bundle.manifest, splits.test, "test"),
        }
    finally:
        engine.close()


def _none_of(part: Part) -> Part:
    return Part(part.images, part.start, part.start)


def _tokens_of(
    engine: Engine, manifest: Manifest, part: Part, description: str, *, flip: bool = False
) -> Tokens:
    num_positions = int(np.prod(manifest.grid))
    tokens = np.empty((len(part), num_positions), token_dtype(manifest.codebook_size))
    start = 0
    batches = whole_batches(part, _BATCH)
    for batch in with_bar(description, batches, -(-len(part) // _BATCH)):
        pixels = np.ascontiguousarray(batch[:, :, ::-1]) if flip else batch
        found = engine.encode(pixels).tokens
        tokens[start : start + len(batch)] = found.reshape(len(batch), -1)
        start += len(batch)
    return tokens


def _origin(manifest: Manifest, data: DataSettings) -> str:
    """What decides the tokens, as a text that is kept beside them."""
    parts = {
        **data.model_dump(exclude={"folder", "num_workers"}),
        "ids": str(manifest.tokenizer_id),
    }
    return repr(sorted(parts.items()))


def _keep(path: Path, arrays: dict[str, Tokens], origin: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, allow_pickle=False, origin=np.array(origin), **arrays)
    partial.replace(path)


def _kept(path: Path, origin: str) -> dict[str, Tokens] | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        if str(file["origin"]) != origin:
            raise SettingsError(
                f"{path} holds tokens of another tokenizer or of other data; remove it, or choose "
                "another file"
            )
        return {name: file[name] for name in _PARTS}


def token_shape(manifest: Manifest, num_labels: int) -> TokenShape:
    """What a prior over a bundle's tokens is over."""
    code_dim = manifest.code_dim if manifest.depth == 1 else 0
    return TokenShape(manifest.grid, manifest.codebook_size, num_labels, code_dim)


def counts_of(tokens: TokenSplits) -> Tensor:
    """How often each code stands at each position of the training images, int64 (N, K)."""
    size = tokens.shape.codebook_size
    counts = [
        np.bincount(column, minlength=size)
        for part in (tokens.train.tokens, tokens.mirrored)
        for column in part.T
    ]
    stacked = np.stack(counts).reshape(2, tokens.shape.num_positions, size).sum(0)
    return torch.from_numpy(stacked.astype(np.int64))
