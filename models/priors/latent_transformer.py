"""The network of the diffusion prior: a transformer over the latents of a grid."""

import torch
from torch import Tensor, nn

from models.priors.base import TokenShape
from models.priors.transformer import Block, initialise

_NUM_FREQUENCIES, _FASTEST = 16, 100.0


class LatentTransformer(nn.Module):
    """Latents (B, N, D), a first guess of what they stand for (B, N, D), times (B,), labels (B,) to
    corrections (B, N, D), which are 0 before training.

    Blocks and positions are those of `TokenTransformer`; time and label are added everywhere.
    """

    def __init__(self, shape: TokenShape, width: int, num_layers: int, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} is no multiple of num_heads {num_heads}")
        self.inputs = nn.Linear(2 * shape.code_dim, width)
        self.times = nn.Sequential(
            nn.Linear(2 * _NUM_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.labels = nn.Embedding(shape.num_labels + 1, width)
        self.positions = nn.Embedding(shape.num_positions, width)
        self.axes = nn.ModuleList(nn.Embedding(side, width) for side in shape.grid)
        self.blocks = nn.ModuleList(
            Block(width, num_heads, causal=False) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, shape.code_dim)
        places = torch.cartesian_prod(*(torch.arange(side) for side in shape.grid))
        self.register_buffer("places", places.T.contiguous(), persistent=False)
        frequencies = torch.logspace(0, 1, _NUM_FREQUENCIES, base=_FASTEST)
        self.register_buffer("frequencies", frequencies, persistent=False)
        initialise(self, self.blocks)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor, guess: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        everywhere = self.labels(labels) + self.times(self._waves(t))
        x = self.inputs(torch.cat([x, guess], dim=-1)) + everywhere[:, None] + self._place()
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def _waves(self, t: Tensor) -> Tensor:
        angles = t[:, None] * self.get_buffer("frequencies")
        return torch.cat([angles.cos(), angles.sin()], dim=1)

    def _place(self) -> Tensor:
        rows = zip(self.axes, self.get_buffer("places"), strict=True)
        return self.positions.weight + sum(axis(place) for axis, place in rows)
