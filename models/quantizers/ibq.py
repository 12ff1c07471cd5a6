"""IBQ: the gradient goes through the index, to all codes (arXiv 2412.02692)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.collectives import global_mean
from models.quantizers.base import (
    Posterior,
    Quantized,
    Quantizer,
    full_precision,
    to_grid,
    to_tokens,
)
from models.randomness import Progress

TOKENS_PER_CHUNK = 256


class _Part(NamedTuple):
    """Of some tokens: soft (n, D), and sums over them q_sum (K,), entropy ()."""

    soft: Tensor
    indices: Tensor
    q_sum: Tensor
    entropy: Tensor


class IndexBackpropagationQuantizer(Quantizer):
    """IBQ (Shi et al. 2024, section 3.2): argmax of z·μ, trained through a one-hot.

        l = z·μ ─► p = softmax(l) ─► one-hot(argmax l) + p - sg p, times the codebook = z_q

    z_q has the value μ_j; its gradient to l is that of the mixture p M, so that each code learns
    from each token; its gradient to the codebook goes to row j.

    Terms, each a mean over tokens and D: `assignment` (z_q - z)², `commitment` (sg μ_j - z)²,
    `codebook` (μ_j - sg z)²; and `posterior_entropy`, the mean H(q(c|x)) in nats of the posterior
    q(c|x) = softmax(l / assignment_temperature). With a pressure on H(q̄) it is the paper's entropy
    penalty.

    Codes start as the paper's do, uniform in ±1/K, and not as k-means centroids: of those the
    longest have the largest products with most vectors, and usage collapses within some steps.

    Raises ValueError where assignment_temperature is not above 0.
    """

    def __init__(
        self, codebook_size: int, code_dim: int, *, assignment_temperature: float = 0.01
    ) -> None:
        super().__init__()
        if assignment_temperature <= 0.0:
            raise ValueError(
                f"assignment_temperature must be greater than 0, not {assignment_temperature}"
            )
        self.codebook_size = codebook_size
        self.head_channels = self.code_dim = code_dim
        self.assignment_temperature = assignment_temperature
        start = torch.rand(codebook_size, code_dim) * 2.0 - 1.0
        self.codebook = nn.Parameter(start / codebook_size)

    def code_table(self) -> Tensor:
        return self.codebook

    def scores(self, head: Tensor) -> Tensor:
        batch, _, height, width = head.shape
        return self._logits(to_tokens(full_precision(head))).view(batch, height, width, -1)

    def _logits(self, z: Tensor) -> Tensor:
        """(N, K) z·μ less z·μ̄, which all codes of a token share: no softmax changes."""
        return z @ (self.codebook - self.codebook.mean(0)).t()

    def forward(self, head: Tensor, progress: Progress | None) -> Quantized:
        with torch.autocast(head.device.type, enabled=False):
            head = full_precision(head)
            z = to_tokens(head)
            parts = [self._chunk(rows) for rows in z.split(TOKENS_PER_CHUNK)]
            soft, indices = (torch.cat(each) for each in ([p.soft for p in parts],
                                                          [p.indices for p in parts]))  # fmt: skip
            entropy = torch.stack([part.entropy for part in parts]).sum() / len(z)
            q_mean = torch.stack([part.q_sum for part in parts]).sum(0) / len(z)
            hard = nn.functional.embedding(indices, self.codebook)
            terms = {
                "assignment": (soft - z).square().mean(),
                "commitment": (hard.detach() - z).square().mean(),
                "codebook": (hard - z.detach()).square().mean(),
                "posterior_entropy": entropy,
            }
            return Quantized(
                z_q=to_grid(soft if self.training else hard, head),
                indices=indices.view(head.shape[0], *head.shape[2:]),
                z_e=head.detach(),
                terms=terms,
                posterior=Posterior(global_mean(q_mean), entropy),
                statistics={},
            )

    def _chunk(self, z: Tensor) -> _Part:
        """Of tokens z (n, D). Backward computes it anew: no (N, K) matrix is kept."""
        if not torch.is_grad_enabled():
            return self._assign(z)
        return checkpoint(self._assign, z, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]

    def _assign(self, z: Tensor) -> _Part:
        logits = self._logits(z)
        indices = logits.argmax(1)
        p = logits.softmax(1)
        # (p - sg p) is 0: the codebook's rows come in with their value, and p with its gradient.
        soft = nn.functional.embedding(indices, self.codebook) + (p - p.detach()) @ (
            self.codebook.detach()
        )
        log_q = (logits / self.assignment_temperature).log_softmax(1)
        q = log_q.exp()
        return _Part(soft, indices, q.sum(0), -(q * log_q).sum())
