"""What two processes get from the collectives, as a program: `python -m … FOLDER`.

The environment is that of torchrun. The function of the batch has a part that is no mean over
samples, as the entropy of a mean posterior is none.
"""

import os
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch import distributed as dist

from models.collectives import (
    alone,
    copy_from_first,
    gathered,
    global_mean,
    global_sum,
    num_processes,
)
from tests.processes import NUM_PROCESSES, save

SAMPLES, DIM = 6, 3


def batch() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(SAMPLES, DIM, dtype=torch.double, generator=generator)


def weights() -> Tensor:
    return torch.linspace(-1.0, 1.0, DIM * DIM, dtype=torch.double).view(DIM, DIM)


def loss_of(samples: Tensor, weight: Tensor) -> Tensor:
    """A mean over samples, and functions of the whole batch's mean that are none."""
    hidden = (samples @ weight).tanh()
    mean = global_mean(hidden.mean(0))
    return hidden.square().mean() + mean.exp().prod() + (hidden - mean).square().mean()


def exchange(rank: int) -> dict[str, Tensor]:
    """What process `rank` of two sees."""
    share = batch().chunk(NUM_PROCESSES)[rank]
    weight = weights().requires_grad_()
    loss = loss_of(share, weight)
    loss.backward()
    assert weight.grad is not None
    module = nn.Linear(2, 1, bias=False)
    nn.init.constant_(module.weight, float(rank))
    module.register_buffer("steps", torch.tensor([rank]))
    copy_from_first(module)
    with alone():
        inside = torch.tensor([num_processes(), float(global_sum(torch.tensor(rank)))])
    return {
        "loss": global_mean(loss.detach()),
        # As DistributedDataParallel reduces it.
        "gradient": global_mean(weight.grad),
        "counts": global_sum(torch.tensor([rank + 1, (1 << 60) + rank])),
        "strided sum": global_sum(share.t()),
        "rows": gathered(share),
        "strided rows": gathered(share.t()),
        "indices": gathered(torch.arange(3) + 10 * rank),
        "copied": torch.cat([tensor.flatten() for tensor in module.state_dict().values()]),
        "alone": inside,
    }


if __name__ == "__main__":
    place = int(os.environ["RANK"])
    dist.init_process_group("gloo")
    save(exchange(place), place, Path(sys.argv[1]))
    dist.destroy_process_group()
