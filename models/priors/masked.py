"""A masked transformer with a fixed reveal schedule: few passes, and an exact likelihood."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from models.priors.base import Prior, TokenShape
from models.priors.labels import without_some
from models.priors.schedules import reveal_groups
from models.priors.transformer import TokenTransformer, at
from models.randomness import MASK_STREAM, Noise


class MaskedPrior(Prior):
    """p of all unknown tokens given any known ones (MaskGIT, Chang et al. 2022; DUEL 2603.01367).

    schedules: the beginnings of these are what half of the training (`schedule_mix`) sees as known;
    the rest sees any tokens, as many of them as it falls (so that in-painting works). The first is
    in force until another is set.
    label_dropout: share of the training that does without its label, for guidance.
    """

    def __init__(
        self,
        shape: TokenShape,
        width: int = 96,
        num_layers: int = 3,
        num_heads: int = 4,
        schedules: Sequence[str] = ("halton-12",),
        schedule_mix: float = 0.5,
        label_dropout: float = 0.1,
    ) -> None:
        super().__init__(shape, schedules[0])
        if not 0 <= schedule_mix <= 1 or not 0 <= label_dropout <= 1:
            raise ValueError("schedule_mix and label_dropout are shares, in 0 .. 1")
        self.schedules = tuple(schedules)
        self.schedule_mix, self.label_dropout = schedule_mix, label_dropout
        self.network = TokenTransformer(shape, width, num_layers, num_heads, causal=False)
        trained = [torch.from_numpy(reveal_groups(name, shape.grid)) for name in schedules]
        self.register_buffer("trained_groups", torch.stack(trained), persistent=False)

    def begin(self, counts: Tensor, codes: Tensor | None = None) -> None:
        self.network.begin(counts, codes, self.shape)

    def logits(self, tokens: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
        return self.network.head(at(self.network(tokens, labels), positions))

    def loss(self, tokens: Tensor, labels: Tensor, noise: Noise) -> Tensor:
        """Cross-entropy of all unknown tokens, every sample as heavy as another.

        With any k of the N tokens unknown, k uniform in 1 .. N, that bounds -log p(x) / N in every
        order (Uria, Murray and Larochelle 2014, equation 6).
        """
        unknown = self.unknown_in_training(noise)
        labels = without_some(labels, self.shape.no_label, self.label_dropout, noise)
        features = self.network(torch.where(unknown, self.shape.unknown, tokens), labels)
        # The head is the widest layer: only what is asked for goes through it.
        logits = self.network.head(features[unknown])
        nats = functional.cross_entropy(logits.float(), tokens[unknown], reduction="none")
        weight = (1.0 / unknown.sum(1, keepdim=True)).expand_as(unknown)[unknown]
        return (nats * weight).sum() / len(tokens)

    def unknown_in_training(self, noise: Noise) -> Tensor:
        """Which tokens of each sample are to be guessed, bool (B, N), at least one."""
        num = self.shape.num_positions
        tosses = noise.uniform(MASK_STREAM, num + 3)
        by_schedule = self._suffix(tosses[:, 0], tosses[:, 1])
        count = (tosses[:, 1:2] * num).long() + 1
        rank = tosses[:, 3:].argsort(1).argsort(1)
        return torch.where(tosses[:, 2:3] < self.schedule_mix, by_schedule, rank < count)

    def _suffix(self, which: Tensor, where: Tensor) -> Tensor:
        """The groups from a random one on, of a random schedule: bool (B, N)."""
        groups = self.get_buffer("trained_groups")
        chosen = groups[(which * len(groups)).long()]
        first = (where * (chosen.amax(1) + 1)).long()
        return chosen >= first[:, None]
