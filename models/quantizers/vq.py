"""VQ-VAE's quantizer, its codebook trained by gradient, with the options that keep codes in use."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from models.collectives import global_sum
from models.quantizers.affine import AffineKind, LearnedAffine, build_affine
from models.quantizers.base import (
    ParameterState,
    Quantized,
    to_tokens,
    usage_histogram,
)
from models.quantizers.code_space import CodeSpace
from models.quantizers.inner_step import InnerStep, Named
from models.quantizers.nearest_code import NearestCode
from models.quantizers.replacement import forget_rows
from models.quantizers.synchronised import synchronised
from models.randomness import Progress


class VectorQuantizer(NearestCode):
    """VQ-VAE (van den Oord et al. 2017, equation 3), and what Table 1 of GM-VQ adds to it.

    Terms: `codebook` mean (sg z_e - μ)², `commitment` mean (z_e - sg μ)², both over N and D.

    Each option is off by default, and any may be on together:

    normalise: codes and latents of unit length ("l2", Yu et al. 2021).
    replace_after: steps without use after which a code moves onto a latent (Huh et al. 2023).
    affine: a scale and a shift of all codes, "learned" at `affine_rate` times the learning rate, or
    from "statistics" of the latents (`models.quantizers.affine`).
    inner_rate: learning rate of the codebook's own step before the task's; there is no `codebook`
    term then. With `task_share` 0 nothing else trains the codes.
    task_share: ν, how much of the task's gradient reaches the chosen codes; under Adam, with no
    other gradient beside it, any ν > 0 is the same but for its rounding. OPT of Huh et al. 2023 is
    `inner_rate` (50 at D = 64, 6.25 at D = 8) and `task_share` (0.2) together. It holds codes to
    latents so fast that the commitment must be weak, 0.03 or less, or latents and codes run away
    together.

    Raises ValueError for rates out of range, and for an inner rate at which a learned affine map
    could diverge.
    """

    def __init__(  # noqa: PLR0913 - each option is a row of Table 1
        self,
        codebook_size: int,
        code_dim: int,
        *,
        normalise: bool = False,
        replace_after: int | None = None,
        affine: AffineKind = "off",
        affine_rate: float = 1.0,
        inner_rate: float = 0.0,
        task_share: float = 0.0,
    ) -> None:
        space = CodeSpace(build_affine(affine, code_dim, affine_rate), normalise)
        super().__init__(codebook_size, code_dim, space, replace_after)
        if min(inner_rate, task_share) < 0.0:
            raise ValueError("inner_rate and task_share must be at least 0")
        self.task_share = task_share
        self.codebook = nn.Parameter(torch.randn(codebook_size, code_dim) * code_dim**-0.5)
        self.inner = InnerStep(self._parameters_by_name(), inner_rate) if inner_rate else None
        if self.inner is not None:
            _check_convergence(self.inner, space, code_dim)
            # What no gradient of the loss reaches must not look as if it waited for one.
            self.requires_grad_(task_share > 0.0)

    def forward(self, head: Tensor, progress: Progress | None) -> Quantized:
        with torch.autocast(head.device.type, enabled=False):
            z_e = self._latents(head)
            indices = self._nearest(z_e)
            parameters, momenta = self._parameters_by_name(), {}
            if self.inner is not None and self.training:
                momenta = self.inner(
                    self._table, parameters, (z_e, indices), self._curvature(indices)
                )
                parameters = self.inner.moved(parameters, momenta)
            z_q = nn.functional.embedding(indices, self._table(parameters))
            terms = {"commitment": (z_e - z_q.detach()).square().mean()}
            if self.inner is None:
                terms["codebook"] = (z_e.detach() - z_q).square().mean()
            output = synchronised(z_e, z_q, self.task_share) if self.training else z_q
            return self._result(head, z_e, indices, output, terms)._replace(pending=momenta)

    @torch.no_grad()
    def after_step(
        self, quantized: Quantized, progress: Progress, optimiser_state: ParameterState
    ) -> None:
        if self.inner is not None:
            self.inner.take(self._parameters_by_name(), quantized.pending)
        z_e = to_tokens(quantized.z_e)
        self.space.observe(z_e, self.codebook)
        if self.dead_codes is None:
            return
        counts = global_sum(usage_histogram(quantized.indices, self.codebook_size))
        dead, vectors = self.dead_codes(counts, z_e, progress)
        self.codebook[dead] = self.space.raw(vectors)
        forget_rows(optimiser_state, self.codebook, dead)
        if self.inner is not None:
            self.inner.forget("codebook", dead)

    def _parameters_by_name(self) -> dict[str, Tensor]:
        return dict(self.named_parameters())

    @torch.no_grad()
    def _curvature(self, indices: Tensor) -> dict[str, Tensor]:
        affine = self.space.affine
        if affine is None:
            return {}
        of_affine = affine.curvature(nn.functional.embedding(indices, self.codebook))
        scale, _ = affine.scale_and_shift()
        return {"codebook": scale.square()} | {f"space.affine.{n}": c for n, c in of_affine.items()}

    def _table(self, parameters: Named) -> Tensor:
        """The codes (K, D) if the parameters were these."""
        prefix = "space."
        of_space = {n.removeprefix(prefix): p for n, p in parameters.items() if n != "codebook"}
        return functional_call(self.space, of_space, (parameters["codebook"],))


def _check_convergence(inner: InnerStep, space: CodeSpace, code_dim: int) -> None:
    """Codes by themselves, and the affine map by itself, have a curvature of at most 2 / D here.

    Together at most twice that. SGD with momentum m converges on a quadratic of curvature h only
    where its rate is below 2 (1 + m) / h (Polyak 1964).
    """
    if space.normalise or not isinstance(space.affine, LearnedAffine):
        return
    most = (1.0 + inner.momentum) * code_dim / 2.0
    if inner.rate >= most:
        raise ValueError(
            f"inner_rate {inner.rate:g} beside a learned affine map can diverge at code_dim "
            f"{code_dim}: it must be below {most:g}"
        )
