"""The tokenizer as one module: encoder, quantizer, decoder."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.networks import Decoder, Encoder, NetworkSettings
from models.precision import exact_float32
from models.quantizers import Quantized, build_quantizer
from models.randomness import Progress


@dataclass(frozen=True)
class ModelSettings:
    """What a model is, without weights: `method` names the quantizer, `quantizer` its options."""

    method: str
    quantizer: Mapping[str, Any]
    network: NetworkSettings = field(default_factory=NetworkSettings)


class Reconstruction(NamedTuple):
    """x_hat (B, 3, H, W), not clipped; what the quantizer gave."""

    x_hat: Tensor
    quantized: Quantized


class Autoencoder(nn.Module):
    """Pixels (B, 3, H, W) in [0, 1], H and W multiples of the factor, to tokens and back."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        # Each part by a seed of its own: the decoder, and the encoder below its head, start alike
        # under every quantizer, which makes comparisons of methods paired.
        seeds = torch.randint(2**62, (3,)).tolist()
        with _seeded(seeds[0]):
            self.quantizer = build_quantizer(settings.method, settings.quantizer)
        with _seeded(seeds[1]):
            self.encoder = Encoder(
                settings.network, self.quantizer.head_channels, self.quantizer.vector_channels
            )
        with _seeded(seeds[2]):
            self.decoder = Decoder(settings.network, self.quantizer.code_dim)

    def forward(self, pixels: Tensor, progress: Progress | None = None) -> Reconstruction:
        head = self.encoder(pixels)
        with exact_float32():
            quantized = self.quantizer(head, progress)
        return Reconstruction(self.decoder(quantized.z_q), quantized)

    def continuous(self, pixels: Tensor) -> Tensor:
        """x_hat (B, 3, H, W) of the encoder's own vectors: an autoencoder without tokens."""
        head = self.encoder(pixels)
        return self.decoder(head[:, : self.quantizer.vector_channels])

    def encode(self, pixels: Tensor) -> Tensor:
        """Tokens (B, h, w[, depth]) int64."""
        head = self.encoder(pixels)
        with exact_float32():
            return self.quantizer.indices(head)

    def decode(self, indices: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [0, 1]."""
        return self.decoder(self.quantizer.lookup(indices)).clamp(0.0, 1.0)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers by a seed, and afterwards as they would have been."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
