"""The network of the learned priors: a transformer over the positions of a token grid."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.priors.base import TokenShape
from models.priors.tables import marginal

_SPREAD = 0.02
_ALIKE, _OF_THEIR_OWN = 0.08, 0.2
"""Of embeddings that start from codes: what they share with near ones, and how much of what they
would have been without them is left."""


class TokenTransformer(nn.Module):
    """Tokens (B, N) of which some are unknown, and labels (B,), to features (B, N, width).

    Pre-norm blocks of attention and GELU; a position is known by its row, its column, its level and
    its own embedding; the label is added everywhere.

    causal: each sees itself and those before it only. sequence: which position of the grid each of
    the N is, int64 (N,); as they are numbered if None.
    """

    def __init__(
        self,
        shape: TokenShape,
        width: int,
        num_layers: int,
        num_heads: int,
        *,
        causal: bool,
        sequence: Tensor | None = None,
    ) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} is no multiple of num_heads {num_heads}")
        self.tokens = nn.Embedding(shape.codebook_size + 1, width)
        self.labels = nn.Embedding(shape.num_labels + 1, width)
        self.positions = nn.Embedding(shape.num_positions, width)
        self.axes = nn.ModuleList(nn.Embedding(side, width) for side in shape.grid)
        self.blocks = nn.ModuleList(
            Block(width, num_heads, causal=causal) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, shape.codebook_size)
        places = torch.cartesian_prod(*(torch.arange(side) for side in shape.grid))
        if sequence is not None:
            places = places[sequence]
        self.register_buffer("places", places.T.contiguous(), persistent=False)
        initialise(self, self.blocks)

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.labels(labels)[:, None] + self._place()
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def _place(self) -> Tensor:
        rows = zip(self.axes, self.get_buffer("places"), strict=True)
        return self.positions.weight + sum(axis(place) for axis, place in rows)

    @torch.no_grad()
    def begin(self, counts: Tensor, codes: Tensor | None, shape: TokenShape) -> None:
        """Start from the codes' marginal, and with codes near each other alike, which would
        take the first epochs of training.
        """
        self.head.bias.copy_(marginal(counts, shape).mean(0).log())
        if codes is not None:
            likeness = _projected(codes, self.head.in_features)
            known = self.tokens.weight[: shape.codebook_size]
            known.copy_(_OF_THEIR_OWN * known + _ALIKE * likeness)
            self.head.weight.copy_(_SPREAD * likeness)


def _projected(codes: Tensor, width: int) -> Tensor:
    """Codes (K, D) standardised, in a random subspace of `width` dimensions: (K, width)."""
    spread = codes.std(0).clamp_min(torch.finfo(codes.dtype).tiny)
    directions = torch.randn(codes.shape[1], width) / math.sqrt(codes.shape[1])
    return (codes - codes.mean(0)) / spread @ directions


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, width: int, num_heads: int, *, causal: bool) -> None:
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))

    def _attend(self, x: Tensor) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.out(seen.transpose(1, 2).flatten(2))


def initialise(network: nn.Module, blocks: nn.ModuleList) -> None:
    """Draw all weights, those that end a branch smaller: the sum of the branches then starts as
    wide as one (Radford et al. 2019).
    """
    network.apply(_draw)
    for block in blocks:
        for last in (block.get_submodule("out"), block.get_submodule("mlp.2")):
            assert isinstance(last, nn.Linear)
            nn.init.normal_(last.weight, std=_SPREAD / math.sqrt(2 * len(blocks)))


def _draw(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=_SPREAD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def at(features: Tensor, positions: Tensor) -> Tensor:
    """Features (B, N, width) at positions (B, P): (B, P, width)."""
    return features.gather(1, positions.unsqueeze(-1).expand(-1, -1, features.shape[-1]))
