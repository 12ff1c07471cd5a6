"""FSQ: every channel rounded to a few levels, no codebook to learn (arXiv 2309.15505)."""

import math

import torch
from torch import Tensor

from models.quantizers.base import (
    Quantized,
    Quantizer,
    full_precision,
    hard_posterior,
    straight_through,
)
from models.randomness import Progress

FEWEST_LEVELS = 3
SLACK = 1e-3
MOST_CODES = 2**31 - 1


class FiniteScalarQuantizer(Quantizer):
    """FSQ (Mentzer et al. 2023, section 3 and appendix A.1); no terms, nothing to train.

        head ─► b_i = (L_i - 1)/2 (1 - 0.001) tanh(head_i + s_i) - o_i ─► round ─► / ⌊L_i/2⌋ = z_q

    o_i is 1/2 where L_i is even, else 0: rounding then gives L_i values. The shift s_i makes b_i of
    0 to 0. The appendix takes tan for it, which comes near; this is its atanh.

    levels: L_i >= 3 each. They decide the other sizes, so that a comparison with methods of another
    code_dim compares the widths too: code_dim D = head_channels = len(levels) and codebook_size
    K = ∏ L_i. The token is the number with the digits round(b_i) + ⌊L_i/2⌋, the first counting
    least.

    `z_e` are the values before rounding, on the scale of z_q. Raises ValueError where a level is
    below 3 (two levels are the sign: lookup-free quantization) or K is above 2³¹ - 1.
    """

    levels: Tensor
    place_values: Tensor

    def __init__(self, levels: list[int]) -> None:
        super().__init__()
        if not levels or min(levels) < FEWEST_LEVELS:
            raise ValueError(f"levels are at least {FEWEST_LEVELS} for each channel, not {levels}")
        self.head_channels = self.code_dim = len(levels)
        self.codebook_size = math.prod(levels)
        if self.codebook_size > MOST_CODES:
            raise ValueError(
                f"levels {levels} make {self.codebook_size} codes, more than tokens can count "
                f"({MOST_CODES}); lower some"
            )
        place_values = [math.prod(levels[:channel]) for channel in range(len(levels))]
        # Whole numbers, so that no change of precision touches them; not saved, since the settings
        # have them.
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("place_values", torch.tensor(place_values), persistent=False)

    def code_table(self) -> Tensor:
        """(K, D): the implicit grid, in [-1, 1]."""
        tokens = torch.arange(self.codebook_size, device=self.levels.device)
        digits = tokens[:, None] // self.place_values % self.levels
        half_width = self.levels // 2
        return (digits - half_width).float() / half_width

    def rule(self) -> dict[str, float | str]:
        return {"slack": SLACK, "shift": "atanh"}

    def bounded(self, head: Tensor) -> Tensor:
        """b (B, h, w, D) of head (B, D, h, w), float32 or wider: what is rounded."""
        z = full_precision(head).permute(0, 2, 3, 1)
        half = (self.levels - 1).to(z.dtype) * (0.5 * (1.0 - SLACK))
        offset = 0.5 * (1 - self.levels % 2).to(z.dtype)
        return half * (z + (offset / half).atanh()).tanh() - offset

    def _tokens(self, rounded: Tensor) -> Tensor:
        """(B, h, w) int64. Half precision has no whole numbers above 256: digits before sums."""
        digits = rounded.to(torch.int64) + self.levels // 2
        return (digits * self.place_values).sum(-1)

    def assign(self, head: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens, and distances to the nearest rounding boundary in half steps, least over D."""
        with torch.autocast(head.device.type, enabled=False):
            bounded = self.bounded(head)
            rounded = bounded.round()
            margin = 1.0 - 2.0 * (bounded - rounded).abs().amax(-1)
            return self._tokens(rounded), margin

    def forward(self, head: Tensor, progress: Progress | None) -> Quantized:
        with torch.autocast(head.device.type, enabled=False):
            bounded = self.bounded(head)
            rounded = bounded.detach().round()
            indices = self._tokens(rounded)
            half_width = self.levels // 2
            z_q = straight_through(bounded, rounded) / half_width if self.training else None
            return Quantized(
                z_q=self.lookup(indices) if z_q is None else z_q.permute(0, 3, 1, 2),
                indices=indices,
                z_e=(bounded.detach() / half_width).permute(0, 3, 1, 2),
                terms={},
                posterior=hard_posterior(indices, self.codebook_size),
                statistics={},
            )
