"""The gate between PyTorch and the exported graphs: nothing passes that tokenizes otherwise."""

import copy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import Autoencoder
from training.data.batches import to_pixels
from vqtok.runtime.engine import Engine

NEAR_TIE = 1e-4
MAX_DIFFERING = 1e-3
BATCH = 100


class ExportRefused(ValueError):
    """The exported graphs differ from PyTorch by more than rounding; the message has figures."""


@dataclass(frozen=True)
class Parity:
    """differing_tokens: share of positions where ONNX and PyTorch differ, all of them near-ties.

    largest_gap: the largest float64 margin at such a position. margin_noise: largest difference of
    margins elsewhere.
    pixel_difference: largest, in steps of 1/255, from the same tokens.
    """

    images: int
    tokens: int
    differing_tokens: float
    largest_gap: float
    margin_noise: float
    pixel_difference: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@torch.no_grad()
def measure_parity(model: Autoencoder, engine: Engine, images: NDArray[np.uint8]) -> Parity:
    """Compare over images (N, H, W, 3).

    Raises ExportRefused where the gate of the design does not hold.
    """
    in_float64 = copy.deepcopy(model).double()
    differing, total, gap, noise, pixels = 0, 0, 0.0, 0.0, 0
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        unit = to_pixels(torch.from_numpy(batch))
        tokens, margins = (t.numpy() for t in model.quantizer.assign(model.encoder(unit)))
        encoded = engine.encode(batch)
        differ = encoded.tokens != tokens
        differing, total = differing + int(differ.sum()), total + differ.size
        gap = max(gap, _largest_gap(in_float64, batch, differ))
        where_equal = np.abs(encoded.margins - margins)[_any_depth(~differ, margins.ndim)]
        # Not Python's max, which a NaN passes unseen.
        noise = float(np.maximum(noise, where_equal.max(initial=0.0)))
        pixels = max(pixels, _pixel_difference(model, engine, encoded.tokens))
    parity = Parity(len(images), total, differing / total, gap, noise, pixels)
    _hold(parity)
    return parity


def _any_depth(mask: NDArray[np.bool_], ndim: int) -> NDArray[np.bool_]:
    """(B, h, w) of a mask that may have a depth axis: True where it is True at every depth."""
    return mask if mask.ndim == ndim else np.asarray(mask.all(axis=-1))


def _largest_gap(
    in_float64: Autoencoder, batch: NDArray[np.uint8], differ: NDArray[np.bool_]
) -> float:
    rows = differ.reshape(len(batch), -1).any(axis=1)
    if not rows.any():
        return 0.0
    unit = to_pixels(torch.from_numpy(batch[rows])).double()
    margins = in_float64.quantizer.assign(in_float64.encoder(unit))[1].numpy()
    return float(margins[~_any_depth(~differ[rows], margins.ndim)].max())


def _pixel_difference(model: Autoencoder, engine: Engine, tokens: NDArray[np.int32]) -> int:
    ours = model.decode(torch.from_numpy(tokens).long()).permute(0, 2, 3, 1) * 255.0
    theirs = engine.decode(tokens).astype(np.int16)
    return int(np.abs(ours.round().numpy().astype(np.int16) - theirs).max())


def _hold(parity: Parity) -> None:
    complaints = {
        "margins are not numbers": not np.isfinite(parity.margin_noise),
        f"{parity.differing_tokens:.3%} of the tokens differ": parity.differing_tokens
        > MAX_DIFFERING,
        f"a token differs that is no near-tie (gap {parity.largest_gap:.2g})": (
            parity.largest_gap > NEAR_TIE
        ),
        f"pixels differ by {parity.pixel_difference}/255": parity.pixel_difference > 1,
    }
    failed = [complaint for complaint, wrong in complaints.items() if wrong]
    if failed:
        raise ExportRefused("ONNX and PyTorch do not agree: " + "; ".join(failed))
