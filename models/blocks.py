"""The convolutions that encoder and decoder are made of."""

from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["batch", "none"]


def conv_norm(
    channels_in: int,
    channels_out: int,
    kernel: int,
    norm: Norm,
    *,
    stride: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """A convolution that keeps (stride 1) or halves (stride 2, kernel 4) the size, and its norm."""
    padding = (kernel - stride + 1) // 2
    conv = nn.Conv2d(
        channels_in, channels_out, kernel, stride, padding, groups=groups, bias=norm == "none"
    )
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out) if norm == "batch" else nn.Identity())


class ResidualBlock(nn.Module):
    """x + f(x), f = ReLU, 3 x 3, norm, ReLU, 1 x 1, norm (as in SQ-VAE, Takida et al. 2022).

    depthwise_kernel: with more than 0, f = k x k depthwise, norm, 1 x 1 to twice the channels,
    ReLU, 1 x 1, norm (after ConvNeXt, Liu et al. 2022): it sees further, for fewer multiplications.
    silent: f starts at 0, so that a deep trunk starts as a shallow one (Goyal et al. 2017, section
    5.1). It needs a norm.
    """

    def __init__(
        self, channels: int, norm: Norm, *, depthwise_kernel: int = 0, silent: bool = False
    ) -> None:
        super().__init__()
        self.body = (
            _depthwise(channels, norm, depthwise_kernel)
            if depthwise_kernel
            else _dense(channels, norm)
        )
        if silent:
            last = self.get_submodule("body.3.1")
            assert isinstance(last, nn.BatchNorm2d)
            nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _dense(channels: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(),
        conv_norm(channels, channels, 3, norm),
        nn.ReLU(),
        conv_norm(channels, channels, 1, norm),
    )


def _depthwise(channels: int, norm: Norm, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        conv_norm(channels, channels, kernel, norm, groups=channels),
        nn.Conv2d(channels, 2 * channels, 1),
        nn.ReLU(),
        conv_norm(2 * channels, channels, 1, norm),
    )


class Standardise(nn.Module):
    """Mean 0 and variance 1 over batch and positions for the first `num` channels of a head."""

    def __init__(self, num: int) -> None:
        super().__init__()
        self.num = num
        self.norm = nn.BatchNorm2d(num, affine=False)

    def forward(self, head: Tensor) -> Tensor:
        return torch.cat([self.norm(head[:, : self.num]), head[:, self.num :]], dim=1)


class Upsample(nn.Module):
    """Twice the size by sub-pixel convolution (Shi et al. 2016).

    Transposed convolutions weave a grid into flat areas (Odena et al. 2016); the four sub-pixels
    here start out equal (Aitken et al. 2017), so that the untrained layer is a nearest-neighbour
    enlargement.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, 4 * channels_out, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)
        for parameter in (self.conv.weight, self.conv.bias):
            assert parameter is not None
            first_of_four = parameter.data[::4]
            parameter.data.copy_(first_of_four.repeat_interleave(4, dim=0))

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.conv(x))
