"""The assignment of GM-VQ and its gradient, in chunks that stay in the processor's cache.

Written by hand because autograd would keep six (N, K) tensors alive and walk each through memory
several times: on a CPU that is several times slower. Only the Gumbel noise is kept whole. The
formulas are GM-VQ's (arXiv 2410.10180) equations 16 and 17.

With z, M centred on the codebook's mean (which changes no softmax and no distance):

    logits   l_nc = -1/2 Σ_d w_nd (z_nd - μ_cd)²  =  [w z, w] · [μ, -μ²/2]  + a constant per token
    q        = softmax(l)                            the posterior q(c|x)
    y        = softmax((l + g) / temperature)        g Gumbel noise, or 0
    j        = argmax(l + g)                         the token; z_c = μ_j, for l's gradient y M
    R        = mean_n Σ_c q_nc |z_n - μ_c|² / two_sigma2
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

TOKENS_PER_CHUNK = 256


@dataclass(frozen=True)
class AssignmentSettings:
    """temperature > 0 of the straight-through softmax; two_sigma2, the 2σ² of the regulariser."""

    temperature: float
    two_sigma2: float


class Assignment(NamedTuple):
    """z_c (N, D), commitment R () and posterior_mean (K,) carry gradients; the rest is detached.

    indices (N,) int64; entropy: mean H(q(c|x_n)) in nats.
    """

    z_c: Tensor
    commitment: Tensor
    posterior_mean: Tensor
    indices: Tensor
    entropy: Tensor


GumbelRows = Callable[[int, int], Tensor]
"""Noise of the tokens start..stop as (stop - start, K)."""


def logit_features(z: Tensor, w: Tensor) -> Tensor:
    """(N, 2 D) left factor of the logits."""
    return torch.cat([w * z, w], dim=1)


def logit_table(codebook: Tensor) -> Tensor:
    """(K, 2 D) right factor of the logits."""
    return torch.cat([codebook, -0.5 * codebook.square()], dim=1)


class _Assign(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        w: Tensor,
        codebook: Tensor,
        gumbel: GumbelRows | None,
        settings: AssignmentSettings,
    ) -> tuple[Tensor, ...]:
        num = len(z)
        # Drawing the noise costs more than all matrix products together, so it is kept.
        ctx.noise = []
        features, table = logit_features(z, w), logit_table(codebook)
        norms = codebook.square().sum(1)
        indices = torch.empty(num, dtype=torch.int64, device=z.device)
        q_sum, qz_sum = torch.zeros_like(norms), torch.zeros_like(codebook)
        q_codes = torch.empty_like(z)
        spread, entropy = z.new_zeros(()), z.new_zeros(())
        for start in range(0, num, TOKENS_PER_CHUNK):
            rows = slice(start, min(start + TOKENS_PER_CHUNK, num))
            logits = features[rows] @ table.t()
            if gumbel is not None:
                ctx.noise.append(gumbel(rows.start, rows.stop))
            noisy = logits + ctx.noise[-1] if ctx.noise else logits
            # `max` walks the row in vector registers; `argmax` alone does not.
            indices[rows] = noisy.max(dim=1).indices
            log_sum = logits.logsumexp(1, keepdim=True)
            q = (logits - log_sum).exp_()
            q_codes[rows] = q @ codebook
            spread += (q @ norms).sum()
            q_sum += q.sum(0)
            qz_sum += q.t() @ z[rows]
            entropy += log_sum.sum() - logits.mul_(q).sum()
        residual = z.square().sum() - 2.0 * (z * q_codes).sum() + spread
        commitment = residual.clamp_min(0.0) / (settings.two_sigma2 * num)
        ctx.save_for_backward(z, w, codebook, indices, q_sum, qz_sum, q_codes)
        ctx.settings = settings
        entropy /= num
        ctx.mark_non_differentiable(indices, entropy)
        return codebook[indices], commitment, q_sum / num, indices, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_zc, d_commitment, d_mean = grads[0], grads[1], grads[2]
        z, w, codebook, indices, q_sum, qz_sum, q_codes = ctx.saved_tensors
        tau, num = ctx.settings.temperature, len(z)
        features, table = logit_features(z, w), logit_table(codebook)
        pull = d_commitment / (ctx.settings.two_sigma2 * num)
        # dL/dq up to a constant per token, which the softmax's backward removes.
        d_q_code = d_mean / num + pull * codebook.square().sum(1)
        d_features, d_table = torch.empty_like(features), torch.zeros_like(table)
        for chunk, start in enumerate(range(0, num, TOKENS_PER_CHUNK)):
            rows = slice(start, min(start + TOKENS_PER_CHUNK, num))
            logits = features[rows] @ table.t()
            q = logits.softmax(1)
            d_logits = torch.addmm(d_q_code, z[rows], codebook.t(), alpha=-2.0 * float(pull))
            _softmax_backward_(d_logits, q)
            if ctx.noise:
                logits += ctx.noise[chunk]
            y = logits.div_(tau).softmax(1)
            d_y = d_zc[rows] @ codebook.t()
            d_logits.add_(_softmax_backward_(d_y, y), alpha=1.0 / tau)
            d_features[rows] = d_logits @ table
            d_table += d_logits.t() @ features[rows]
        d_wz, d_w = d_features.chunk(2, dim=1)
        d_z = d_wz * w + 2.0 * pull * (z - q_codes)
        d_codebook = d_table[:, : z.shape[1]] - codebook * d_table[:, z.shape[1] :]
        d_codebook += 2.0 * pull * (q_sum[:, None] * codebook - qz_sum)
        d_codebook.index_add_(0, indices, d_zc)
        return d_z, d_wz * z + d_w, d_codebook, None, None


def _softmax_backward_(d_p: Tensor, p: Tensor) -> Tensor:
    """dL/dl = p (dL/dp - <p, dL/dp>), in place of `d_p`."""
    inner = (d_p * p).sum(1, keepdim=True)
    return d_p.sub_(inner).mul_(p)


def assign(
    z: Tensor, w: Tensor, codebook: Tensor, gumbel: GumbelRows | None, settings: AssignmentSettings
) -> Assignment:
    """Assign z (N, D) with precisions w (N, D) > 0 to the codebook (K, D).

    z_c has the value μ_j; its gradient to the logits is that of the softmax mixture, its gradient
    to the codebook goes to row j.
    """
    centre = codebook.detach().mean(0)
    z_c, *rest = _Assign.apply(z - centre, w, codebook - centre, gumbel, settings)  # type: ignore[misc]
    return Assignment(z_c + centre, *rest)
