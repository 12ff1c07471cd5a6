"""What a bundle remembers: how training tokens are distributed, and the golden image."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from training.data import Part
from training.data.batches import whole_batches
from training.parity import ExportRefused, Parity
from training.progress import with_bar
from vqtok.bundle import Reference, with_probe
from vqtok.runtime.engine import Engine

BATCH = 100
SAFETY = 100.0
"""How many times the noise between runtimes the golden image's smallest margin must be."""


def build_reference(
    engine: Engine, codebook_size: int, training: Part, candidates: Part, parity: Parity
) -> Reference:
    """Count the tokens of the training images; choose the golden image among `candidates`.

    Raises ExportRefused when no candidate is clear enough.
    """
    golden_image = _golden_image(engine, candidates, parity)
    encoded = engine.encode(golden_image[None])
    position_counts = count_positions(engine, codebook_size, training)
    usage = position_counts.sum(axis=(0, 1), dtype=np.int64)
    reference = Reference(
        usage=usage,
        position_counts=position_counts,
        golden_image=golden_image,
        golden_tokens=encoded.tokens[0],
        golden_margins=encoded.margins[0],
        golden_reconstruction=engine.decode(encoded.tokens)[0],
    )
    return with_probe(engine, reference)


def count_positions(engine: Engine, codebook_size: int, images: Part) -> NDArray[np.uint32]:
    """(h, w[, depth], K): how often each code stands at each place of the grid."""
    counts: NDArray[np.uint32] | None = None
    for batch in _batches(images, "token statistics"):
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
    assert counts is not None
    return counts


def _golden_image(engine: Engine, candidates: Part, parity: Parity) -> NDArray[np.uint8]:
    best, image = -1.0, None
    for batch in _batches(candidates, "golden image"):
        smallest = engine.encode(batch).margins.reshape(len(batch), -1).min(axis=1)
        place = int(smallest.argmax())
        if smallest[place] > best:
            best, image = float(smallest[place]), batch[place]
    if image is None or best < SAFETY * parity.margin_noise:
        raise ExportRefused(
            f"the clearest image has a margin of {best:.2g}, less than {SAFETY:.0f} times the "
            f"noise between PyTorch and ONNX ({parity.margin_noise:.2g})"
        )
    return image


def _batches(images: Part, description: str) -> Iterator[NDArray[np.uint8]]:
    return with_bar(description, whole_batches(images, BATCH), -(-len(images) // BATCH))
