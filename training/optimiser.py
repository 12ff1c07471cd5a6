"""AdamW and its learning rate."""

import math
from collections.abc import Iterable

from torch import nn
from torch.optim import AdamW

from training.settings import OptimiserSettings
from training.task import Task


def build_optimiser(task: Task, settings: OptimiserSettings) -> AdamW:
    """AdamW with weight decay on the networks alone.

    Decay would pull codes that nothing uses to the origin, where they attract vectors that are not
    theirs.
    """
    model = task.model
    decayed: list[nn.Parameter] = [*model.encoder.parameters(), *model.decoder.parameters()]
    others: list[nn.Parameter] = [*model.quantizer.parameters(), *task.objective.parameters()]
    groups = [
        {"params": _trained(decayed), "weight_decay": settings.weight_decay},
        {"params": _trained(others), "weight_decay": 0.0},
    ]
    return AdamW([g for g in groups if g["params"]], lr=settings.learning_rate, fused=True)


def _trained(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]


def learning_rate(settings: OptimiserSettings, fraction: float) -> float:
    """Linear from a tenth of the peak in the warm-up, then half a cosine to 0; fraction < 1."""
    if fraction < settings.warmup:
        return settings.learning_rate * (0.1 + 0.9 * fraction / settings.warmup)
    done = (fraction - settings.warmup) / (1.0 - settings.warmup)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
