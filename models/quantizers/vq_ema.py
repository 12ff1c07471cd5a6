"""VQ-VAE's quantizer, its codes moving averages of the latents that chose them."""

import torch
from torch import Tensor, nn

from models.quantizers.base import (
    ParameterState,
    Quantized,
    straight_through,
    to_tokens,
    usage_histogram,
)
from models.quantizers.code_space import CodeSpace
from models.quantizers.moving_average import Averages
from models.quantizers.nearest_code import NearestCode
from models.randomness import Progress


class EmaVectorQuantizer(NearestCode):
    """VQ-VAE, each code the moving average of what chose it (van den Oord et al. 2017, A.1).

    Term: `commitment`. The averages move in `after_step`, in training only.

    normalise: codes and latents of unit length; a code is the direction of its average.
    replace_after: as in `VectorQuantizer`. Its other options have no place here: an average sets
    its code wherever a scale and a shift put it, and would overwrite what a gradient has moved.

    Raises ValueError for a decay out of range.
    """

    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        *,
        decay: float = 0.99,
        normalise: bool = False,
        replace_after: int | None = None,
    ) -> None:
        super().__init__(codebook_size, code_dim, CodeSpace(None, normalise), replace_after)
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), not {decay}")
        self.decay = decay
        self.register_buffer("codebook", torch.randn(codebook_size, code_dim) * code_dim**-0.5)
        self.register_buffer("counts", torch.ones(codebook_size))
        self.register_buffer("sums", self.codebook.clone())

    def initialise(self, heads: Tensor, progress: Progress) -> None:
        super().initialise(heads, progress)
        self.counts.fill_(1.0)
        self.sums.copy_(self.codebook)

    def forward(self, head: Tensor, progress: Progress | None) -> Quantized:
        with torch.autocast(head.device.type, enabled=False):
            z_e = self._latents(head)
            indices = self._nearest(z_e)
            z_q = nn.functional.embedding(indices, self.code_table())
            terms = {"commitment": (z_e - z_q).square().mean()}
            output = straight_through(z_e, z_q) if self.training else z_q
            return self._result(head, z_e, indices, output, terms)

    @torch.no_grad()
    def after_step(
        self, quantized: Quantized, progress: Progress, optimiser_state: ParameterState
    ) -> None:
        z_e, indices = to_tokens(quantized.z_e), quantized.indices.reshape(-1)
        counts = usage_histogram(indices, self.codebook_size).to(self.counts)
        sums = torch.zeros_like(self.sums).index_add_(0, indices, z_e.to(self.sums))
        averages = Averages(self.counts, self.sums)
        batch = Averages(counts, sums).of_all_processes()
        averages.move_(batch, self.decay)
        if self.dead_codes is not None:
            dead, vectors = self.dead_codes(batch.counts, z_e, progress)
            # Count and sum are set with the code, else the next update would undo the replacement.
            self.counts[dead] = 1.0
            self.sums[dead] = self.space.raw(vectors).to(self.sums)
        self.codebook.copy_(averages.codes())
