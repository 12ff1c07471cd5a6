"""A causal transformer, one token after another: the yardstick of likelihood."""

import torch
from torch import Tensor
from torch.nn import functional

from models.priors.base import Prior, TokenShape, chosen_log_prob
from models.priors.labels import without_some
from models.priors.schedules import reveal_order
from models.priors.transformer import TokenTransformer, at
from models.randomness import Noise


class AutoregressivePrior(Prior):
    """p(x_i | x_1 .. x_{i-1}). The network is that of `MaskedPrior`, and as large.

    A sample takes N passes, and tokens that are known in advance must come first, so that it does
    not paint into the middle of a grid.

    order: a schedule that reveals one token at a time, such as "raster", or "halton-64" on 64.
    """

    any_order = False

    def __init__(
        self,
        shape: TokenShape,
        width: int = 96,
        num_layers: int = 3,
        num_heads: int = 4,
        label_dropout: float = 0.1,
        order: str = "raster",
    ) -> None:
        super().__init__(shape, order)
        if self.num_passes != shape.num_positions:
            raise ValueError(
                f"order {order!r} reveals several of the {shape.num_positions} tokens at a time"
            )
        if not 0 <= label_dropout <= 1:
            raise ValueError("label_dropout is a share, in 0 .. 1")
        self.label_dropout = label_dropout
        sequence = torch.from_numpy(reveal_order(order, shape.grid))
        self.network = TokenTransformer(
            shape, width, num_layers, num_heads, causal=True, sequence=sequence
        )
        self.register_buffer("sequence", sequence, persistent=False)

    def begin(self, counts: Tensor, codes: Tensor | None = None) -> None:
        self.network.begin(counts, codes, self.shape)

    def logits(self, tokens: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
        return self.network.head(at(self._features(tokens, labels), positions))

    def loss(self, tokens: Tensor, labels: Tensor, noise: Noise) -> Tensor:
        labels = without_some(labels, self.shape.no_label, self.label_dropout, noise)
        logits = self.network.head(self._features(tokens, labels))
        return functional.cross_entropy(logits.float().flatten(0, 1), tokens.flatten())

    @torch.no_grad()
    def log_prob(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """As of the base, in one pass instead of N."""
        logits = self.network.head(self._features(tokens, labels))
        return chosen_log_prob(logits, tokens)

    def _features(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Each position is given the token before its own, so that it knows all before it and not
        its own.
        """
        before = tokens[:, self.get_buffer("sequence")[:-1]]
        start = torch.full_like(tokens[:, :1], self.shape.unknown)
        features = self.network(torch.cat([start, before], dim=1), labels)
        return features[:, self.groups]
