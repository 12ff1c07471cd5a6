"""The assignment of GM-VQ and its gradient, in chunks that stay in the processor's cache.

Written by hand because autograd would keep six (N, K) tensors alive and walk each through memory
several times: on a CPU that is several times slower. Only the Gumbel noise is kept whole. The
formulas are GM-VQ's (arXiv 2410.10180) equations 16 and 17.

With z, M centred on the codebook's mean (which changes no softmax and no distance):

    logits   l_nc = -1/2 Σ_d w_nd (z_nd - μ_cd)²  =  [w z, w] · [μ, -μ²/2]  + a constant per token
    q        = softmax(l)                            the posterior q(c|x)
    y        = softmax((l + g) / temperature)        g Gumbel noise, or 0
    j        = argmax(l + g)                         the token; z_c = μ_j, for l's gradient y M
    E_q[t]   of t = [μ, |μ|²]                        all that distances to the codes need
    H        = mean_n H(q_n)                         its gradient to l is that of -l to q
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

TOKENS_PER_CHUNK = 256


@dataclass(frozen=True)
class AssignmentSettings:
    """temperature > 0 of the straight-through softmax.

    dense_code_gradient: z_c's gradient reaches every code by its share y, not the chosen one alone.
    """

    temperature: float
    dense_code_gradient: bool = False


class Assignment(NamedTuple):
    """All but `indices` carry gradients.

    z_c (N, D): μ_j.
    code_mean (N, D), code_spread (N,): mean and trace of the covariance of μ_c under q(c|x_n).
    posterior_mean (K,): the mean of q(c|x_n).
    entropy (): the mean of H(q(c|x_n)) in nats.
    indices (N,): j, int64.
    """

    z_c: Tensor
    code_mean: Tensor
    code_spread: Tensor
    posterior_mean: Tensor
    entropy: Tensor
    indices: Tensor

    def distances(self, z: Tensor) -> Tensor:
        """(N,): Σ_c q(c|x_n) |z_n - μ_c|² of z (N, D), to rounding not negative."""
        return (z - self.code_mean).square().sum(1) + self.code_spread


GumbelRows = Callable[[int, int], Tensor]
"""Noise of the tokens start..stop as (stop - start, K)."""


def logit_features(z: Tensor, w: Tensor) -> Tensor:
    """(N, 2 D) left factor of the logits."""
    return torch.cat([w * z, w], dim=1)


def logit_table(codebook: Tensor) -> Tensor:
    """(K, 2 D) right factor of the logits."""
    return torch.cat([codebook, -0.5 * codebook.square()], dim=1)


def _moments(codebook: Tensor) -> Tensor:
    """(K, D + 1): μ and |μ|², whose means under q give every distance to the codes."""
    return torch.cat([codebook, codebook.square().sum(1, keepdim=True)], dim=1)


class _Assign(torch.autograd.Function):
    """features (N, 2 D), table (K, 2 D), moments (K, D + 1) to what `assign` makes of them."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        table: Tensor,
        moments: Tensor,
        gumbel: GumbelRows | None,
        settings: AssignmentSettings,
    ) -> tuple[Tensor, ...]:
        num = len(features)
        # Drawing the noise costs more than all matrix products together, so it is kept.
        ctx.noise = []
        indices = torch.empty(num, dtype=torch.int64, device=table.device)
        q_moments = moments.new_empty(num, moments.shape[1])
        q_sum, entropy = moments.new_zeros(len(moments)), moments.new_zeros(())
        for rows in _chunks(num):
            logits = features[rows] @ table.t()
            if gumbel is not None:
                ctx.noise.append(gumbel(rows.start, rows.stop))
            noisy = logits + ctx.noise[-1] if ctx.noise else logits
            # `max` walks the row in vector registers; `argmax` alone does not.
            indices[rows] = noisy.max(dim=1).indices
            # Both: exp of what underflows is many times slower than a softmax.
            q = logits.softmax(1)
            torch.mm(q, moments, out=q_moments[rows])
            q_sum += q.sum(0)
            entropy -= logits.log_softmax(1).mul_(q).sum()
        ctx.save_for_backward(features, table, moments, indices)
        ctx.settings = settings
        ctx.mark_non_differentiable(indices)
        ctx.set_materialize_grads(False)
        return _codes(moments)[indices], q_moments, q_sum / num, entropy / num, indices

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        features, table, moments, indices = ctx.saved_tensors
        codes, settings, num = _codes(moments), ctx.settings, len(features)
        d_zc = features.new_zeros(num, codes.shape[1]) if grads[0] is None else grads[0]
        d_q_moments = moments.new_zeros(num, moments.shape[1]) if grads[1] is None else grads[1]
        d_mean = moments.new_zeros(len(moments)) if grads[2] is None else grads[2] / num
        d_entropy = None if grads[3] is None else grads[3] / num
        d_features, d_table = torch.empty_like(features), torch.zeros_like(table)
        d_moments = torch.zeros_like(moments)
        for chunk, rows in enumerate(_chunks(num)):
            logits = features[rows] @ table.t()
            q = logits.softmax(1)
            d_moments.addmm_(q.t(), d_q_moments[rows])
            # dL/dq up to a constant per token, which the softmax's backward removes.
            d_logits = torch.addmm(d_mean, d_q_moments[rows], moments.t())
            if d_entropy is not None:
                d_logits -= d_entropy * logits
            _softmax_backward_(d_logits, q)
            if ctx.noise:
                logits += ctx.noise[chunk]
            y = logits.div_(settings.temperature).softmax(1)
            if settings.dense_code_gradient:
                _codes(d_moments).addmm_(y.t(), d_zc[rows])
            d_y = d_zc[rows] @ codes.t()
            d_logits.add_(_softmax_backward_(d_y, y), alpha=1.0 / settings.temperature)
            torch.mm(d_logits, table, out=d_features[rows])
            d_table.addmm_(d_logits.t(), features[rows])
        if not settings.dense_code_gradient:
            _codes(d_moments).index_add_(0, indices, d_zc)
        return d_features, d_table, d_moments, None, None


def _chunks(num: int) -> Iterator[slice]:
    for start in range(0, num, TOKENS_PER_CHUNK):
        yield slice(start, min(start + TOKENS_PER_CHUNK, num))


def _codes(moments: Tensor) -> Tensor:
    """(K, D): a view of μ in `_moments`."""
    return moments[:, :-1]


def _softmax_backward_(d_p: Tensor, p: Tensor) -> Tensor:
    """dL/dl = p (dL/dp - <p, dL/dp>), in place of `d_p`."""
    inner = (d_p * p).sum(1, keepdim=True)
    return d_p.sub_(inner).mul_(p)


def assign(
    z: Tensor, w: Tensor, codebook: Tensor, gumbel: GumbelRows | None, settings: AssignmentSettings
) -> Assignment:
    """Assign z (N, D) with precisions w (N, D) > 0 to the codebook (K, D).

    z_c has the value μ_j; its gradient to the logits is that of the softmax mixture, its gradient
    to the codebook goes to row j, or by y to all rows.
    """
    centre = codebook.detach().mean(0)
    codes = codebook - centre
    features, table = logit_features(z - centre, w), logit_table(codes)
    z_c, q_moments, *rest = _Assign.apply(features, table, _moments(codes), gumbel, settings)  # type: ignore[misc]
    mean, square = q_moments[:, :-1], q_moments[:, -1]
    return Assignment(z_c + centre, mean + centre, square - mean.square().sum(1), *rest)
