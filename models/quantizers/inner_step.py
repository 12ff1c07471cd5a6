"""The codebook's own step of SGD before the task sees it."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from models.collectives import global_mean

Named = Mapping[str, Tensor]


class InnerStep(nn.Module):
    """The alternating optimisation of Huh et al. 2023: first the codes go to their latents.

    One step of SGD with momentum on mean (μ_j - sg z_e)², over N and D and all processes, j fixed.
    `forward` computes the step and `take` takes it, so that a forward pass changes nothing: z_q is
    looked up in `moved` parameters meanwhile.

    Where a parameter's `curvature` is above 1, that of a code by itself, its gradient is divided by
    it: a rate that suits codes would throw a scale or a shift that all of them share off.

    rate: large, since the loss is a mean: a code that a share p of the tokens chooses goes
    2 p rate / D of the way to their mean, ten times that once the momentum of 0.9 has built up.
    """

    def __init__(self, parameters: Named, rate: float, momentum: float = 0.9) -> None:
        super().__init__()
        self.rate, self.momentum = rate, momentum
        for name, parameter in parameters.items():
            self.register_buffer(_buffer(name), torch.zeros_like(parameter, requires_grad=False))

    def forward(
        self,
        table: Callable[[Named], Tensor],
        parameters: Named,
        targets: tuple[Tensor, Tensor],
        curvature: Named,
    ) -> dict[str, Tensor]:
        """The momenta after this step, by parameter.

        table: gives the codes (K, D) of some parameters.
        targets: z_e (N, D) and the indices (N,) of their codes.
        curvature: of the codes (D,) to a parameter, squared, by its name; 1 for one not named.
        """
        z_e, indices = targets
        with torch.enable_grad():
            leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
            z_q = nn.functional.embedding(indices, table(leaves))
            loss = (z_q - z_e.detach()).square().mean()
            gradients = torch.autograd.grad(loss, [*leaves.values()])
        momenta: dict[str, Tensor] = {}
        for name, gradient in zip(leaves, gradients, strict=True):
            step = global_mean(gradient)
            if name in curvature:
                step = step / curvature[name].clamp_min(1.0)
            momenta[name] = self.momentum * self.get_buffer(_buffer(name)) + step
        return momenta

    def moved(self, parameters: Named, momenta: Named) -> dict[str, Tensor]:
        """Where the step leads, with gradient to the parameters where they stand."""
        return {name: p - self.rate * momenta[name] for name, p in parameters.items()}

    @torch.no_grad()
    def take(self, parameters: Named, momenta: Named) -> None:
        """Move the parameters, and remember the momenta."""
        for name, parameter in parameters.items():
            parameter.sub_(self.rate * momenta[name])
            self.get_buffer(_buffer(name)).copy_(momenta[name])

    def forget(self, name: str, rows: Tensor) -> None:
        """Stop `rows` of a parameter: they are other codes now."""
        self.get_buffer(_buffer(name))[rows] = 0.0


def _buffer(name: str) -> str:
    return "momentum_" + name.replace(".", "_")
