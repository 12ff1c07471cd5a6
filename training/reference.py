"""What a bundle remembers: how training tokens are distributed, and the golden image."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models import Autoencoder
from training.data import Part
from training.data.batches import whole_batches
from training.parity import ExportRefused, measure_parity
from training.progress import with_bar
from vqtok.bundle import Reference, with_probe
from vqtok.runtime.engine import Engine

BATCH = 100
SAFETY = 100.0
"""How many times the noise of its tokens the golden image's smallest margin must be.

The noise of others says nothing of it: scores near zero have margins full of noise.
"""


def build_reference(
    engine: Engine, model: Autoencoder, training: Part, candidates: Part
) -> Reference:
    """Count the tokens of the training images; choose the golden image among `candidates`.

    Raises ExportRefused when no candidate is clear enough.
    """
    position_counts = count_positions(engine, model.quantizer.codebook_size, training)
    reference = reference_of(engine, position_counts, candidates)
    noise = measure_parity(model, engine, reference.golden_image[None]).margin_noise
    _hold_clear(float(reference.golden_margins.min()), noise)
    return reference


def reference_of(
    engine: Engine, position_counts: NDArray[np.uint32], candidates: Part
) -> Reference:
    """With these counts of training tokens, the clearest of the candidates as the golden image, and
    what the engine makes of it.
    """
    golden_image = _clearest_image(engine, candidates)
    encoded = engine.encode(golden_image[None])
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


def _batches(images: Part, description: str) -> Iterator[NDArray[np.uint8]]:
    return with_bar(description, whole_batches(images, BATCH), -(-len(images) // BATCH))
