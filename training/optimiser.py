"""The optimisers and their learning rate."""

import math
from collections.abc import Iterable

from torch import nn
from torch.optim import AdamW, Optimizer

from training.muon import KernelMuon, inner_kernels
from training.settings import OptimiserSettings
from training.task import Task


def build_optimisers(task: Task, settings: OptimiserSettings) -> list[Optimizer]:
    """AdamW of all that is trained, and where it is asked for Muon, which takes kernels from it.

    The groups' `initial_lr` is the peak of their learning rate.

    Weight decay is on the networks alone. It would pull codes that nothing uses to the origin,
    where they attract vectors that are not theirs.
    """
    model, rate, decay = task.model, settings.learning_rate, settings.weight_decay
    kernels = inner_kernels(model) if settings.muon_learning_rate else []
    networks: list[nn.Parameter] = [*model.encoder.parameters(), *model.decoder.parameters()]
    others: list[nn.Parameter] = [*model.quantizer.parameters(), *task.objective.parameters()]
    groups = [
        {"params": _trained(networks, without=kernels), "weight_decay": decay},
        {"params": _trained(others), "weight_decay": 0.0},
    ]
    optimisers: list[Optimizer] = [
        AdamW([group for group in groups if group["params"]], lr=rate, fused=True)
    ]
    if kernels:
        optimisers.append(KernelMuon(kernels, settings.muon_learning_rate, decay))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]
    return optimisers


def _trained(
    parameters: Iterable[nn.Parameter], without: Iterable[nn.Parameter] = ()
) -> list[nn.Parameter]:
    left_out = {id(parameter) for parameter in without}
    return [p for p in parameters if p.requires_grad and id(p) not in left_out]


def share_of_peak(settings: OptimiserSettings, fraction: float) -> float:
    """Linear from a tenth of the peak in the warm-up, then half a cosine to 0; fraction < 1."""
    if fraction < settings.warmup:
        return 0.1 + 0.9 * fraction / settings.warmup
    done = (fraction - settings.warmup) / (1.0 - settings.warmup)
    return 0.5 * (1.0 + math.cos(math.pi * done))
