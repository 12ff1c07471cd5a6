"""Three steps of training, by one process or by two that share every batch.

As a program it is one of the two: `python -m tests.training.shared_batch FOLDER`, with the
environment that torchrun sets. It trains every case, each also with faults put in, and writes what
came out to FOLDER.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import models.collectives
from models.collectives import global_mean
from models.quantizers.replacement import DeadCodes
from tests.contracts.quantizers.options import OPTIONS as VARIANTS
from tests.contracts.quantizers.options import SIZES
from tests.processes import save
from tests.training.tiny import OBJECTIVES, smooth_images, tiny_settings, tiny_table
from training.data import Part, Splits
from training.devices import launch
from training.loop import Trainer
from training.objectives import OBJECTIVES as KNOWN_OBJECTIVES
from training.objectives import Loss

STEPS, BATCH_SIZE, SIDE = 3, 8, 8
"""A batch has 32 tokens, so that of 16 codes some stay unused in a step."""


class Case(NamedTuple):
    """A quantizer with options under an objective, by a name that tests can have."""

    name: str
    method: str
    options: dict[str, Any]
    objective: str
    objective_options: Mapping[str, Any] = MappingProxyType({})


def _cases() -> list[Case]:
    cases: list[Case] = []
    for method, objective in OBJECTIVES.items():
        variants = [*VARIANTS[method], tiny_table(method, "unused")["model"]["quantizer"]]
        cases += [
            Case(f"{method}-{i}", method, _impatient(v), objective) for i, v in enumerate(variants)
        ]
    # Objectives that no quantizer has as its own are tried with the quantizer that has a posterior.
    others = [name for name in KNOWN_OBJECTIVES if name not in OBJECTIVES.values()]
    return cases + [Case(name, "gmvq", SIZES | {"noise": "token"}, name) for name in others]


def _impatient(options: dict[str, Any]) -> dict[str, Any]:
    """Three steps are few: what replaces codes does so at the first step that does not use them."""
    return options | ({"replace_after": 1} if "replace_after" in options else {})


CASES = {case.name: case for case in _cases()}
SENSITIVE = {
    "usage": Case("usage", "gmvq", SIZES, "albo", {"gamma": 0.1, "usage_pressure": 0.5}),
    "averages": Case("averages", "vq_ema", SIZES | {"decay": 0.5}, "vqvae"),
    "replacement": Case("replacement", "vq", SIZES | {"replace_after": 1}, "vqvae"),
}
"""Cases in which a fault shows plainly."""

FAULTS: dict[str, tuple[str, str, str]] = {
    "each process has a mean posterior of its own": ("usage", "models.", "global_mean"),
    "each process averages its own vectors": ("averages", "models.quantizers.", "global_sum"),
    "each process replaces codes by its own vectors": (
        "replacement",
        "models.quantizers.",
        "gathered",
    ),
    "each process clusters its own heads": ("averages", "training.loop", "gathered"),
}
"""Of each fault: the case, the modules that lose a collective, and which."""


class Outcome(NamedTuple):
    """Of each step the loss of the whole batch and the gradients; at the end the model.

    replaced: how many codes were moved onto vectors of a batch.
    """

    losses: list[float]
    gradients: list[dict[str, Tensor]]
    state: dict[str, Tensor]
    replaced: int


def run(case: Case, folder: Path) -> Outcome:
    """Train three steps in float64, every gradient clipped."""
    settings = tiny_settings(
        case.method,
        "unused",
        {
            "model.network": {"width": 8, "num_blocks": 1, "norm": "none"},
            "model.quantizer": case.options,
            "objective": {"name": case.objective, "options": dict(case.objective_options)},
            "schedule": {
                "epochs": 1,
                "batch_size": BATCH_SIZE,
                "kmeans_vectors": 64,
                "precision": "64-true",
                "device": "cpu",
            },
            "optimiser.clip_norm": 0.1,
        },
    )
    images = smooth_images(STEPS * BATCH_SIZE, SIDE)
    empty = Part(images, 0, 0)
    trainer = Trainer(settings, Splits(Part(images, 0, len(images)), empty, empty), folder)
    losses: list[float] = []
    gradients: list[dict[str, Tensor]] = []
    replaced: list[int] = []

    def keep_loss(_: nn.Module, __: Any, loss: Loss) -> None:
        losses.append(float(global_mean(loss.total.detach())))

    def keep_gradients(*_: Any) -> None:
        named = trainer.wrapped.module.named_parameters()
        gradients.append({name: p.grad.clone() for name, p in named if p.grad is not None})

    def count_replaced(_: nn.Module, __: Any, made: tuple[Tensor, Tensor]) -> None:
        replaced.append(len(made[0]))

    trainer.objective.register_forward_hook(keep_loss)
    for module in trainer.model.modules():
        if isinstance(module, DeadCodes):
            module.register_forward_hook(count_replaced)
    inner: Any = trainer.optimisers[0].optimizer
    inner.register_step_pre_hook(keep_gradients)
    trainer.run()
    return Outcome(losses, gradients, trainer.model.state_dict(), sum(replaced))


def _identity(x: Tensor) -> Tensor:
    return x


@contextmanager
def without(prefix: str, name: str) -> Iterator[None]:
    """The modules that start with `prefix` exchange nothing by the collective `name`."""
    real = getattr(models.collectives, name)
    patched = [
        module
        for place, module in list(sys.modules.items())
        if place.startswith(prefix) and getattr(module, name, None) is real
    ]
    assert patched, f"nothing in {prefix} calls {name}"
    for module in patched:
        setattr(module, name, _identity)
    try:
        yield
    finally:
        for module in patched:
            setattr(module, name, real)


def write_outcomes(folder: Path) -> None:
    """All cases and all faults, by this process of two."""
    torch.set_num_threads(1)
    rank = launch().rank
    made: dict[str, tuple[Any, ...]] = {}
    for name, case in (CASES | SENSITIVE).items():
        made[name] = tuple(run(case, folder / f"{rank}-{name}"))
    for number, (fault, (name, prefix, collective)) in enumerate(FAULTS.items()):
        with without(prefix, collective):
            made[fault] = tuple(run(SENSITIVE[name], folder / f"{rank}-fault-{number}"))
    save(made, rank, folder)


if __name__ == "__main__":
    write_outcomes(Path(sys.argv[1]))
