"""The contract that every quantizer keeps, and what is the same in all of them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from models.collectives import global_sum
from models.randomness import Progress


class Posterior(NamedTuple):
    """q(c|x) over the tokens of a batch, with gradients where the assignment is soft.

    mean (K,), or (depth, K): q̄, the mean of q(c|x) over the whole batch, of all processes.
    entropy (): the mean of H(q(c|x)) in nats; 0 where the assignment is hard.
    """

    mean: Tensor
    entropy: Tensor


class Quantized(NamedTuple):
    """What a quantizer makes of one batch.

    z_q (B, D, h, w): what the decoder reads; in evaluation exactly `lookup(indices)`.
    indices (B, h, w), or (B, h, w, depth) where depth > 1: int64 in [0, K).
    z_e (B, D, h, w): the encoder's vectors that were quantized, for hooks and statistics.
    terms: named scalar losses, unweighted; the objective weighs and adds them.
    posterior: of the tokens, for objectives that press on usage or rate.
    statistics: further scalars to log, detached.
    pending: what `after_step` will make part of the state, detached; `forward` changes no state.
    """

    z_q: Tensor
    indices: Tensor
    z_e: Tensor
    terms: dict[str, Tensor]
    posterior: Posterior
    statistics: dict[str, Tensor]
    pending: Mapping[str, Tensor] = MappingProxyType({})


class ParameterState(Protocol):
    """The optimiser's memory of a parameter, as `torch.optim.Optimizer.state` holds it."""

    def get(self, key: Tensor, default: dict[str, Tensor], /) -> dict[str, Tensor]: ...


class Quantizer(nn.Module):
    """A rule that turns the encoder's head into tokens, and tokens into vectors.

    head_channels: how many channels the encoder must give (D for VQ, 2 D for GM-VQ, K for Gumbel).
    codebook_size K, code_dim D, depth: tokens per grid cell.
    """

    head_channels: int
    codebook_size: int
    code_dim: int
    depth: int = 1

    @property
    def vector_channels(self) -> int:
        """How many of head's first channels are the vectors that codes stand for: D, or 0."""
        return self.code_dim

    def forward(self, head: Tensor, progress: Progress | None) -> Quantized:
        """Quantize head (B, head_channels, h, w).

        `progress` is needed in training mode; in evaluation no noise is drawn and it may be None.
        """
        raise NotImplementedError

    def scores(self, head: Tensor) -> Tensor:
        """(B, h, w, K) float32: what argmax sees, centred and without a constant per token.

        Quantizers that search no table (FSQ) have none and override `assign`.
        """
        raise NotImplementedError

    def assign(self, head: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, h, w[, depth]) int64 and margins (B, h, w) float32 in [0, 1], without noise.

        The margin is (s1 - s2) / (|s1| + |s2|) of the two best scores: how far a token is from
        being another. Equal scores give the lowest index.
        """
        with torch.autocast(head.device.type, enabled=False):
            scores = self.scores(head)
        best, order = scores.topk(2, dim=-1)
        s1, s2 = best[..., 0], best[..., 1]
        margin = (s1 - s2) / (s1.abs() + s2.abs()).clamp_min(torch.finfo(s1.dtype).tiny)
        # Of equal scores torch's topk puts any first; ONNX's TopK the lowest, at half the time.
        indices = order[..., 0] if torch.onnx.is_in_onnx_export() else scores.argmax(-1)
        return indices, margin

    def indices(self, head: Tensor) -> Tensor:
        """The tokens of `assign`."""
        return self.assign(head)[0]

    def code_table(self) -> Tensor:
        """(K, D), or (depth, K, D): the vectors that tokens stand for, everything baked in."""
        raise NotImplementedError

    def rule(self) -> dict[str, float | str]:
        """What tokens depend on beside head and code table, for the tokenizer's identity."""
        return {}

    def lookup(self, indices: Tensor) -> Tensor:
        """z_q (B, D, h, w) of indices (B, h, w)."""
        return to_channels_first(nn.functional.embedding(indices, self.code_table()))

    def initialise(self, heads: Tensor, progress: Progress) -> None:
        """Set the codebook from heads (N, head_channels), collected before the first step."""

    def after_step(
        self, quantized: Quantized, progress: Progress, optimiser_state: ParameterState
    ) -> None:
        """Called when the optimiser has stepped: the place for EMA updates and replacement."""


def to_channels_first(x: Tensor) -> Tensor:
    """(B, h, w, D) -> (B, D, h, w)."""
    return x.permute(0, 3, 1, 2)


def to_tokens(x: Tensor) -> Tensor:
    """(B, D, h, w) -> (B h w, D), raster order."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def to_grid(tokens: Tensor, like: Tensor) -> Tensor:
    """(B h w, D) -> (B, D, h, w) with B, h, w of `like`."""
    batch, _, height, width = like.shape
    return to_channels_first(tokens.view(batch, height, width, -1))


def full_precision(x: Tensor) -> Tensor:
    """At least float32: half precision picks other codes."""
    return x if x.dtype == torch.float64 else x.float()


def straight_through(z_e: Tensor, z_q: Tensor) -> Tensor:
    """Value of z_q, gradient to z_e (van den Oord et al. 2017, section 3.2; Bengio et al. 2013)."""
    return z_e + (z_q - z_e).detach()


def usage_histogram(indices: Tensor, codebook_size: int) -> Tensor:
    """(K,) float32: how often each code occurs in `indices`."""
    return torch.bincount(indices.reshape(-1), minlength=codebook_size).float()


def hard_posterior(indices: Tensor, codebook_size: int) -> Posterior:
    """Of an assignment that is one-hot: no gradient, no entropy."""
    counts = global_sum(usage_histogram(indices, codebook_size))
    return Posterior(counts / counts.sum(), torch.zeros((), device=indices.device))


def vectors_of(heads: Sequence[Tensor]) -> Tensor:
    """(N, head_channels) of several heads (B, head_channels, h, w), for `Quantizer.initialise`."""
    return torch.cat([to_tokens(head) for head in heads])
