"""What several processes that train one model together must agree on; alone, nothing happens.

Each process sees its share of a batch. The loss of the whole batch has parts that are no mean over
samples (the entropy of the mean posterior, a variance, a codebook's moving averages): for them
processes exchange sums. Shares are equal in size and lie in the order of the ranks. Every process
must reach every call, or the others wait for it: work that only some of them do goes `alone`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Inside, nothing is exchanged: for evaluation, and for what has the whole batch already."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def num_processes() -> int:
    """How many processes train together; 1 inside `alone`."""
    if _ALONE.get() or not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size()


class _GlobalMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _sum(x) / num_processes()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # Parameter gradients are averaged over processes afterwards. The loss that counts is the
        # mean of the processes' losses, so that the factors 1/R of both means cancel but for one.
        return _sum(grads[0]) / dist.get_world_size()


def _sum(x: Tensor) -> Tensor:
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def global_mean(x: Tensor) -> Tensor:
    """The mean of x (…, floating) over processes, with the gradient of training on the whole batch.

    That holds where parameter gradients are averaged over processes, as DistributedDataParallel
    does. x has one shape and dtype in all processes, and so has the result.
    """
    return _GlobalMean.apply(x) if num_processes() > 1 else x  # type: ignore[return-value]


@torch.no_grad()
def global_sum(x: Tensor) -> Tensor:
    """The sum of x (…) over processes, without gradient: for counts and moving averages.

    Integers stay integers.
    """
    return _sum(x) if num_processes() > 1 else x.detach()


@torch.no_grad()
def gathered(x: Tensor) -> Tensor:
    """The rows (N, …) of all processes in the order of the whole batch: (R N, …), no gradient.

    Of one batch: the shares of several batches, gathered at once, would lie batch in rank instead
    of rank in batch.
    """
    if num_processes() == 1:
        return x.detach()
    share = x.detach().contiguous()
    parts = [torch.empty_like(share) for _ in range(num_processes())]
    dist.all_gather(parts, share)
    return torch.cat(parts)


@torch.no_grad()
def copy_from_first(module: nn.Module) -> None:
    """Give parameters and buffers of `module` the values that they have in the first process."""
    if num_processes() > 1:
        for tensor in module.state_dict().values():
            value = tensor.contiguous()
            dist.broadcast(value, src=0)
            tensor.copy_(value)
