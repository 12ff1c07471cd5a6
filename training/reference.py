"""What a bundle remembers: how training tokens are distributed, and the golden image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from models import Autoencoder
from training.coder_tables import estimate_tables
from training.data import Part, Splits
from training.data.batches import whole_batches
from training.parity import ExportRefused, measure_parity
from training.progress import with_bar
from vqtok.bitstream import CoderTables
from vqtok.bundle import Reference, with_probe
from vqtok.runtime.engine import Engine
from vqtok.tokens import token_dtype

T = TypeVar("T")

BATCH = 100
CANDIDATES = 2_000
KEPT_TOKENS = 1 << 26
"""Contexts are counted on so many training tokens at most: they are held in memory."""
SAFETY = 100.0
"""How many times the noise of its tokens the golden image's smallest margin must be.

The noise of others says nothing of it: scores near zero have margins full of noise.
"""


@dataclass(frozen=True, eq=False)
class Counted:
    """Tokens of a part of the data: `position_counts` uint32 (h, w[, depth], K) of all of them, and
    `tokens` (n, h, w[, depth]) of as many images, spread evenly, as are kept.
    """

    position_counts: NDArray[np.uint32]
    tokens: NDArray[Any]


def build_reference(engine: Engine, model: Autoencoder, splits: Splits) -> Reference:
    """Count the tokens of the training images, estimate the coder tables on them, and choose the
    golden image among the last training images.

    Raises ExportRefused when none is clear enough.
    """
    table = model.quantizer.code_table().detach().float().numpy()
    tables = measure_tables(engine, table, splits)
    reference = reference_of(engine, tables, golden_candidates(splits))
    noise = measure_parity(model, engine, reference.golden_image[None]).margin_noise
    _hold_clear(float(reference.golden_margins.min()), noise)
    return reference


def golden_candidates(splits: Splits) -> Part:
    """The last training images, validation images included."""
    images = splits.train.images
    return Part(images, max(0, len(images) - CANDIDATES), len(images))


def measure_tables(engine: Engine, codebook: NDArray[np.float32], splits: Splits) -> CoderTables:
    """The coder tables of a codebook (K, D) or (depth, K, D), of training tokens, smoothed as
    validation tokens like it best; where there are none, a tenth of the training tokens.
    """
    codes = codebook.shape[-2]
    counted = count_tokens(engine, codes, splits.train)
    held_out = counted.tokens[::10]
    if len(splits.validation):
        held_out = count_tokens(engine, codes, splits.validation).tokens
    shown = partial(_shown, "coder tables")
    return estimate_tables(counted.position_counts, counted.tokens, held_out, codebook, shown)


def reference_of(engine: Engine, tables: CoderTables, candidates: Part) -> Reference:
    """With these tables, the clearest of the candidates as the golden image, and what the engine
    makes of it.
    """
    golden_image = _clearest_image(engine, candidates)
    encoded = engine.encode(golden_image[None])
    counts = tables.position_counts
    reference = Reference(
        usage=tables.usage if tables.depth > 1 else tables.usage[0],
        position_counts=counts if tables.depth > 1 else counts[:, :, 0],
        golden_image=golden_image,
        golden_tokens=encoded.tokens[0],
        golden_margins=encoded.margins[0],
        golden_reconstruction=engine.decode(encoded.tokens)[0],
    )
    return with_probe(engine, with_tables(reference, tables))


def with_tables(reference: Reference, tables: CoderTables) -> Reference:
    """The same reference with other counts of training tokens and other coder tables."""
    return replace(
        reference,
        usage=tables.usage.reshape(reference.usage.shape),
        position_counts=tables.position_counts.reshape(reference.position_counts.shape),
        coder_clusters=tables.clusters,
        coder_context_counts=tables.context_counts,
        coder_smoothing=tables.smoothing,
    )


def count_tokens(engine: Engine, codebook_size: int, images: Part) -> Counted:
    """Encode images; count how often each code stands at each place of the grid."""
    counts: NDArray[np.uint32] | None = None
    kept: list[NDArray[Any]] = []
    for number, batch in enumerate(_batches(images, "token statistics")):
        tokens = engine.encode(batch).tokens
        flat = tokens.reshape(len(tokens), -1)
        if counts is None:
            counts = np.zeros((*tokens.shape[1:], codebook_size), np.uint32)
        rows = counts.reshape(-1, codebook_size)
        places = np.arange(flat.shape[1]) * codebook_size
        rows += (
            np.bincount((flat + places).reshape(-1), minlength=rows.size)
            .reshape(rows.shape)
            .astype(np.uint32)
        )
        every = max(1, -(-len(images) * flat.shape[1] // KEPT_TOKENS))
        kept.append(tokens[-number * BATCH % every :: every].astype(token_dtype(codebook_size)))
    assert counts is not None
    return Counted(counts, np.concatenate(kept))


def _clearest_image(engine: Engine, candidates: Part) -> NDArray[np.uint8]:
    """That with the largest smallest margin. Raises ExportRefused where there is none."""
    best, image = -1.0, None
    for batch in _batches(candidates, "golden image"):
        smallest = engine.encode(batch).margins.reshape(len(batch), -1).min(axis=1)
        place = int(smallest.argmax())
        if smallest[place] > best:
            best, image = float(smallest[place]), batch[place]
    if image is None:
        raise ExportRefused("there is no image to choose a golden one from")
    return image


def _hold_clear(margin: float, noise: float) -> None:
    if not margin >= SAFETY * noise:
        raise ExportRefused(
            f"the clearest image has a margin of {margin:.2g}, less than {SAFETY:.0f} times the "
            f"noise of its tokens between PyTorch and ONNX ({noise:.2g})"
        )


def _shown(description: str, items: Sequence[T]) -> Iterator[T]:
    return with_bar(description, items, len(items))


def _batches(images: Part, description: str) -> Iterator[NDArray[np.uint8]]:
    return with_bar(description, whole_batches(images, BATCH), -(-len(images) // BATCH))
