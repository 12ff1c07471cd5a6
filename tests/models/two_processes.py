"""A script: train quantizers in two processes, each on half of every batch."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch.multiprocessing.spawn import spawn

from models.collectives import global_mean
from models.quantizers import Quantizer, build_quantizer
from models.randomness import INITIALISATION_STEP, Noise, Progress

PROCESSES, SAMPLES, STEPS = 2, 8, 6
PATIENCE = timedelta(seconds=30)
"""After which a process that waits for one that does not come gives up, and ends both."""
SIZES = {"codebook_size": 12, "code_dim": 4}
OPT = {"inner_rate": 2.0, "task_share": 0.2}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "replace": ("vq", {"replace_after": 2}),
    "l2": ("vq", {"normalise": True, "replace_after": 2}),
    "affine, OPT": ("vq", {"affine": "learned", "replace_after": 2, **OPT}),
    "statistics, OPT": ("vq", {"affine": "statistics", "replace_after": 2, **OPT}),
    "averages": ("vq_ema", {"decay": 0.8, "replace_after": 2}),
    "averages, l2": ("vq_ema", {"decay": 0.8, "normalise": True, "replace_after": 2}),
}


def started(case: str) -> Quantizer:
    """With four codes that only replacement brings back."""
    torch.manual_seed(0)
    method, options = CASES[case]
    quantizer = build_quantizer(method, SIZES | options).double().train()
    heads = torch.randn(200, 4, generator=torch.Generator().manual_seed(5)).double()
    quantizer.initialise(heads, progress(INITIALISATION_STEP, slice(0, SAMPLES)))
    with torch.no_grad():
        tensors: Any = quantizer
        far = torch.tensor([1e3, 1.0, 1.0, 1.0]).double()
        tensors.codebook[::3] = far
        if method == "vq_ema":
            tensors.sums[::3] = far
    return quantizer


def progress(step: int, part: slice) -> Progress:
    return Progress(max(step, 0), 100, Noise(0, step, torch.arange(SAMPLES)[part]))


def head_of(step: int) -> torch.Tensor:
    """Skewed, so that halves of a batch differ."""
    head = torch.randn(SAMPLES, 4, 3, 3, generator=torch.Generator().manual_seed(step)).double()
    return head + torch.linspace(0.0, 1.0, SAMPLES).view(-1, 1, 1, 1)


def trained(case: str, part: slice) -> dict[str, torch.Tensor]:
    """The state after some steps on a part of each batch, gradients averaged over processes."""
    quantizer = started(case)
    parameters = [*quantizer.parameters()] or [torch.nn.Parameter(torch.zeros(1))]
    optimiser = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.0)
    for step in range(STEPS):
        given = progress(step, part)
        result = quantizer(head_of(step)[part].requires_grad_(), given)
        optimiser.zero_grad()
        (torch.stack([*result.terms.values()]).sum() + result.z_q.square().mean()).backward()
        for parameter in quantizer.parameters():
            assert parameter.grad is not None
            parameter.grad = global_mean(parameter.grad)
        optimiser.step()
        quantizer.after_step(result, given, optimiser.state)
    return quantizer.state_dict()


def share_of(rank: int) -> slice:
    each = SAMPLES // PROCESSES
    return slice(rank * each, (rank + 1) * each)


def _train(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=PROCESSES, timeout=PATIENCE
    )
    states = {case: trained(case, share_of(rank)) for case in CASES}
    torch.save(states, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    spawn(_train, args=(sys.argv[1],), nprocs=PROCESSES)
