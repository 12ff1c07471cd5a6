"""Evaluation: noise-free, in full precision, over all images of a part."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import Autoencoder
from models.collectives import alone
from models.precision import exact_float32
from training.data import Part
from training.data.batches import to_pixels, whole_batches
from training.metrics import Reconstructions, Usage
from vqtok.runtime.engine import Engine

Progressed = Callable[[Iterator[Any], int], Iterator[Any]]
BATCH = 100


def _plain(items: Iterator[Any], total: int) -> Iterator[Any]:
    return items


def evaluate_model(
    model: Autoencoder, images: Part, progressed: Progressed = _plain
) -> dict[str, float]:
    """MSE, PSNR, SSIM on [0, 1], hard and soft usage of a PyTorch model; its mode is restored.

    One process does it; others may wait or do the same.
    """
    errors, usage = measure_model(model, images, progressed)
    return {**errors.summary(), **usage.summary()}


@torch.no_grad()
def measure_model(
    model: Autoencoder, images: Part, progressed: Progressed = _plain
) -> tuple[Reconstructions, Usage]:
    """What the figures of `evaluate_model` are made from."""
    modes, weight = [m.training for m in model.modules()], next(model.parameters())
    model.eval()
    quantizer = model.quantizer
    errors, usage = Reconstructions(), Usage(quantizer.codebook_size, quantizer.depth)
    for batch in progressed(whole_batches(images, BATCH), -(-len(images) // BATCH)):
        pixels = to_pixels(torch.from_numpy(batch).to(weight.device), weight.dtype)
        with alone(), exact_float32():
            x_hat, quantized = model(pixels)
        clipped = x_hat.float().clamp(0.0, 1.0).permute(0, 2, 3, 1).cpu().numpy()
        errors.add(batch / np.float32(255.0), clipped)
        usage.add(quantized.indices.cpu().numpy())
        posterior = quantized.posterior
        usage.add_soft(
            posterior.mean.double().cpu().numpy(),
            float(posterior.entropy),
            quantized.indices.numel(),
        )
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    return errors, usage


def evaluate_engine(
    engine: Engine,
    codebook_size: int,
    images: Part,
    progressed: Progressed = _plain,
    depth: int = 1,
) -> dict[str, float]:
    """The same figures of exported graphs, from their uint8 pixels."""
    errors, usage = Reconstructions(), Usage(codebook_size, depth)
    for batch in progressed(whole_batches(images, BATCH), -(-len(images) // BATCH)):
        tokens = engine.encode(batch).tokens
        errors.add(_unit(batch), _unit(engine.decode(tokens)))
        usage.add(tokens)
    return {**errors.summary(), **usage.summary()}


def _unit(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return images / 255.0
