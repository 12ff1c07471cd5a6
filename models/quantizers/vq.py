"""VQ-VAE's quantizer: the nearest code, with the straight-through gradient."""

import torch
from torch import Tensor, nn

from models.collectives import global_sum
from models.quantizers.base import (
    ParameterState,
    Quantized,
    Quantizer,
    full_precision,
    hard_posterior,
    straight_through,
    to_grid,
    to_tokens,
    usage_histogram,
)
from models.quantizers.kmeans import kmeans
from models.quantizers.nearest import nearest_scores
from models.quantizers.replacement import DeadCodes, forget_rows
from models.randomness import Progress


class _NearestCode(Quantizer):
    """What the gradient and the EMA form share: search, lookup, start and replacement."""

    codebook: Tensor

    def __init__(self, codebook_size: int, code_dim: int, replace_after: int | None) -> None:
        super().__init__()
        self.head_channels = self.code_dim = code_dim
        self.codebook_size = codebook_size
        self.dead_codes = None if replace_after is None else DeadCodes(codebook_size, replace_after)

    def code_table(self) -> Tensor:
        return self.codebook

    def scores(self, head: Tensor) -> Tensor:
        batch, _, height, width = head.shape
        scores = nearest_scores(to_tokens(full_precision(head)), self.codebook)
        return scores.view(batch, height, width, -1)

    def initialise(self, heads: Tensor, progress: Progress) -> None:
        with torch.no_grad():
            self.codebook.copy_(kmeans(heads, self.codebook_size, progress.noise.seed))

    def _quantize(self, head: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z_e (N, D), indices (N,), z_q (N, D) with gradient to the codebook, float32 or wider."""
        z_e = to_tokens(head)
        with torch.no_grad():
            indices = nearest_scores(z_e, self.codebook).argmax(1)
        return z_e, indices, nn.functional.embedding(indices, self.codebook)

    def _result(
        self, head: Tensor, indices: Tensor, z_q: Tensor, terms: dict[str, Tensor]
    ) -> Quantized:
        grid = indices.view(head.shape[0], *head.shape[2:])
        output = straight_through(head, z_q) if self.training else z_q
        return Quantized(
            z_q=output,
            indices=grid,
            z_e=head.detach(),
            terms=terms,
            posterior=hard_posterior(indices, self.codebook_size),
            statistics={},
        )


class VectorQuantizer(_NearestCode):
    """VQ-VAE (van den Oord et al. 2017, equation 3), the codebook trained by gradient.

    Terms: `codebook` mean (sg z_e - μ)², `commitment` mean (z_e - sg μ)², both over N and D.
    """

    def __init__(
        self, codebook_size: int, code_dim: int, *, replace_after: int | None = None
    ) -> None:
        super().__init__(codebook_size, code_dim, replace_after)
        self.codebook = nn.Parameter(torch.randn(codebook_size, code_dim) * code_dim**-0.5)

    def forward(self, head: Tensor, progress: Progress | None) -> Quantized:
        with torch.autocast(head.device.type, enabled=False):
            head = full_precision(head)
            z_e, indices, z_q = self._quantize(head)
            terms = {
                "codebook": (z_e.detach() - z_q).square().mean(),
                "commitment": (z_e - z_q.detach()).square().mean(),
            }
            return self._result(head, indices, to_grid(z_q, head), terms)

    def after_step(
        self, quantized: Quantized, progress: Progress, optimiser_state: ParameterState
    ) -> None:
        if self.dead_codes is None:
            return
        counts = global_sum(usage_histogram(quantized.indices, self.codebook_size))
        dead, vectors = self.dead_codes(counts, to_tokens(quantized.z_e), progress)
        with torch.no_grad():
            self.codebook[dead] = vectors
        forget_rows(optimiser_state, self.codebook, dead)


class EmaVectorQuantizer(_NearestCode):
    """VQ-VAE, each code the moving average of what chose it (van den Oord et al. 2017, A.1).

    Term: `commitment`. The averages move in `after_step`, in training only.
    """

    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        *,
        decay: float = 0.99,
        replace_after: int | None = None,
    ) -> None:
        super().__init__(codebook_size, code_dim, replace_after)
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
            head = full_precision(head)
            z_e, indices, z_q = self._quantize(head)
            terms = {"commitment": (z_e - z_q).square().mean()}
            return self._result(head, indices, to_grid(z_q, head), terms)

    @torch.no_grad()
    def after_step(
        self, quantized: Quantized, progress: Progress, optimiser_state: ParameterState
    ) -> None:
        z_e, indices = to_tokens(quantized.z_e), quantized.indices.reshape(-1)
        counts = global_sum(usage_histogram(indices, self.codebook_size)).to(self.counts)
        sums = torch.zeros_like(self.sums).index_add_(0, indices, z_e.to(self.sums))
        sums = global_sum(sums)
        self.counts.lerp_(counts, 1.0 - self.decay)
        self.sums.lerp_(sums, 1.0 - self.decay)
        if self.dead_codes is not None:
            dead, vectors = self.dead_codes(counts, z_e, progress)
            # Count and sum are set with the code, else the next update would undo the replacement.
            self.counts[dead] = 1.0
            self.sums[dead] = vectors.to(self.sums)
        self.codebook.copy_(self.sums / self._smoothed_counts()[:, None])

    def _smoothed_counts(self, epsilon: float = 1e-5) -> Tensor:
        """Laplace smoothing, so that a code that was never chosen divides by no zero."""
        total = self.counts.sum()
        return (self.counts + epsilon) / (total + self.codebook_size * epsilon) * total
