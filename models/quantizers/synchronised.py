"""The straight-through estimator whose codes see the task's gradient too."""

from torch import Tensor

from models.quantizers.base import straight_through


def synchronised(z_e: Tensor, z_q: Tensor, task_share: float) -> Tensor:
    """z_e + sg(z_q - z_e) + ν (z_q - sg z_q): value of z_q, gradient g to z_e, ν g to the codes.

    The synchronised update of Huh et al. 2023. z_q must be looked up with gradient: the difference
    of a z_q that straight-through has made is one of z_e, and would scale the encoder's gradient.
    """
    output = straight_through(z_e, z_q)
    return output + task_share * (z_q - z_q.detach()) if task_share else output
