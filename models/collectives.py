"""What several processes that train one model together must agree on; alone, nothing happens.

Each process sees its share of a batch. The loss of the whole batch has parts that are no mean over
samples (the entropy of the mean posterior, a variance, a codebook's moving averages): for them
processes exchange sums. Shares are equal in size and lie in the order of the ranks.
"""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def num_processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _GlobalMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _averaged(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # Parameter gradients are averaged over processes afterwards. The loss that counts is the
        # mean of the processes' losses, so that the factors 1/R of both means cancel but for one.
        return _averaged(grads[0])


def _averaged(x: Tensor) -> Tensor:
    total = x.detach().clone()
    dist.all_reduce(total)
    return total / num_processes()


def global_mean(x: Tensor) -> Tensor:
    """The mean of x over processes, with the gradient that equals training on the whole batch."""
    return _GlobalMean.apply(x) if num_processes() > 1 else x  # type: ignore[return-value]


@torch.no_grad()
def global_sum(x: Tensor) -> Tensor:
    """The sum of x over processes, without gradient: for counts and moving averages."""
    return _averaged(x) * num_processes() if num_processes() > 1 else x


@torch.no_grad()
def gathered(x: Tensor) -> Tensor:
    """The rows (N, …) of all processes in the order of the whole batch: (R N, …), no gradient."""
    if num_processes() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(num_processes())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)
