"""Encoder and decoder, fully convolutional: any multiple of the factor will do as H and W."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.blocks import Norm, ResidualBlock, Standardise, Upsample, conv_norm


@dataclass(frozen=True)
class NetworkSettings:
    """width: channels on the grid. num_blocks: residual blocks on each side.

    factor: pixels per grid cell and side, a power of 2.
    num_fine_blocks: residual blocks at twice the grid's resolution, on each side.
    standardise: give the vectors to be quantized mean 0 and variance 1 in each dimension, so that
    the start of a codebook fits them as they move.
    silent_blocks: residual blocks start as the identity.
    depthwise_kernel: residual blocks see by a depthwise convolution of this odd size; 0: by a dense
    3 x 3.
    """

    width: int = 64
    num_blocks: int = 2
    factor: int = 4
    norm: Norm = "batch"
    num_fine_blocks: int = 0
    standardise: bool = False
    silent_blocks: bool = False
    depthwise_kernel: int = 0

    def __post_init__(self) -> None:
        if self.factor < 2 or self.factor & (self.factor - 1):
            raise ValueError(f"factor must be a power of 2 and at least 2, not {self.factor}")
        if self.width < 4 or self.width % 4 or min(self.num_blocks, self.num_fine_blocks) < 0:
            raise ValueError("width must be a positive multiple of 4, numbers of blocks at least 0")
        if self.silent_blocks and self.norm == "none":
            raise ValueError("silent_blocks needs norm = 'batch', whose scale starts at 0")
        if self.depthwise_kernel < 0 or (self.depthwise_kernel and not self.depthwise_kernel % 2):
            raise ValueError(
                f"depthwise_kernel must be odd, or 0 for dense blocks, not {self.depthwise_kernel}"
            )
        if self.num_fine_blocks and self.factor == 2:
            raise ValueError("num_fine_blocks needs a factor of at least 4")
        if self.norm not in ("batch", "none"):
            raise ValueError(f"norm must be 'batch' or 'none', not {self.norm!r}")

    @property
    def num_scales(self) -> int:
        return int(math.log2(self.factor))

    @property
    def block_reach(self) -> int:
        """How far a residual block sees, on each side, in its own resolution."""
        return (self.depthwise_kernel or 3) // 2

    def channels(self, scale: int) -> int:
        """Channels after `scale` halvings: half the width, from the second halving on all of it."""
        return self.width // 2 if scale < min(2, self.num_scales) else self.width


class Encoder(nn.Module):
    """Pixels (B, 3, H, W) in [0, 1] -> head (B, head_channels, H/f, W/f).

    Halvings by 4 x 4 convolutions, a 3 x 3, residual blocks on the grid, a 1 x 1 head: the encoder
    of SQ-VAE (Takida et al. 2022), which most comparisons on CIFAR-10 use. The first
    `vector_channels` of the head are what `NetworkSettings.standardise` means.
    """

    def __init__(self, settings: NetworkSettings, head_channels: int, vector_channels: int) -> None:
        super().__init__()
        self.settings = settings
        layers: list[nn.Module] = []
        channels = 3
        for scale in range(1, settings.num_scales + 1):
            if scale == settings.num_scales:
                layers += _blocks(channels, settings.num_fine_blocks, settings)
            wider = settings.channels(scale)
            layers += [conv_norm(channels, wider, 4, settings.norm, stride=2), nn.ReLU()]
            channels = wider
        layers.append(nn.Conv2d(channels, settings.width, 3, padding=1))
        layers += _blocks(settings.width, settings.num_blocks, settings)
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(settings.width, head_channels, 1)
        self.standardise = Standardise(vector_channels) if settings.standardise else nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.body(2.0 * pixels - 1.0)
        # bfloat16 would round z_e to 8 bits: evaluation would see other vectors than training.
        with torch.autocast(pixels.device.type, enabled=False):
            return self.standardise(self.head(features.to(self.head.weight.dtype)))

    @property
    def halo(self) -> int:
        """Pixels beyond a cell's own that its token depends on, each side, in whole cells."""
        factor, reach = self.settings.factor, self.settings.block_reach
        on_grid = 1 + reach * self.settings.num_blocks
        finer = reach * self.settings.num_fine_blocks
        pixels = factor - 1 + factor * on_grid + factor // 2 * finer
        return math.ceil(pixels / factor) * factor


def _blocks(channels: int, num: int, settings: NetworkSettings) -> list[nn.Module]:
    return [
        ResidualBlock(
            channels,
            settings.norm,
            depthwise_kernel=settings.depthwise_kernel,
            silent=settings.silent_blocks,
        )
        for _ in range(num)
    ]


class Decoder(nn.Module):
    """z_q (B, D, h, w) -> pixels (B, 3, h f, w f), near [0, 1].

    They are not clipped: the loss wants the gradient outside.
    """

    def __init__(self, settings: NetworkSettings, code_dim: int) -> None:
        super().__init__()
        self.settings = settings
        width = settings.width
        layers: list[nn.Module] = [nn.Conv2d(code_dim, width, 3, padding=1)]
        layers += [*_blocks(width, settings.num_blocks, settings), nn.ReLU()]
        channels = width
        for scale in reversed(range(settings.num_scales)):
            narrower = settings.channels(scale) if scale else max(width // 4, 4)
            layers.append(Upsample(channels, narrower))
            channels = narrower
            if scale == settings.num_scales - 1:
                layers += _blocks(channels, settings.num_fine_blocks, settings)
            layers.append(nn.ReLU())
        self.body = nn.Sequential(*layers)
        self.to_pixels = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, z_q: Tensor) -> Tensor:
        return 0.5 + 0.5 * self.to_pixels(self.body(z_q))

    @property
    def halo(self) -> int:
        """Grid cells beyond a cell's own that its pixels depend on, each side."""
        factor, reach = self.settings.factor, self.settings.block_reach
        on_grid = 2 + reach * self.settings.num_blocks
        finer = sum(2.0**-scale for scale in range(1, self.settings.num_scales)) + 1.0 / factor
        finer += reach * self.settings.num_fine_blocks / 2
        return on_grid + math.ceil(finer)
