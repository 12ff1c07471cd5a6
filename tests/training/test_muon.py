"""Muon on kernels: the step of PyTorch's on their matrices, and which kernels it has."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models import Autoencoder
from tests.training.tiny import tiny_settings
from training.data import load_splits
from training.loop import Trainer
from training.muon import KernelMuon, inner_kernels
from training.optimiser import build_optimisers
from training.settings import OptimiserSettings
from training.task import Task

MUON: dict[str, Any] = {"optimiser.muon_learning_rate": 0.02}
SETTINGS = OptimiserSettings(learning_rate=2.0, weight_decay=0.5, muon_learning_rate=0.3)


def model_of(**changes: Any) -> Autoencoder:
    return Autoencoder(tiny_settings("vq", "images", changes).model)


def names_of(model: Autoencoder, parameters: list[nn.Parameter]) -> set[str]:
    chosen = {id(parameter) for parameter in parameters}
    return {name for name, parameter in model.named_parameters() if id(parameter) in chosen}


def test_a_step_is_that_of_the_matrices() -> None:
    generator = torch.Generator().manual_seed(0)
    kernels = [
        nn.Parameter(
            torch.randn(shape, generator=generator).contiguous(memory_format=torch.channels_last)
        )
        for shape in [(6, 4, 3, 3), (5, 8, 1, 1), (12, 2, 4, 4)]
    ]
    matrices = [nn.Parameter(kernel.detach().flatten(1).clone()) for kernel in kernels]
    ours = KernelMuon(kernels, learning_rate=0.1, decay=0.5)
    theirs = torch.optim.Muon(matrices, lr=0.1, weight_decay=0.5)
    for _ in range(3):
        for kernel, matrix in zip(kernels, matrices, strict=True):
            kernel.grad = torch.randn(kernel.shape, generator=generator)
            matrix.grad = kernel.grad.flatten(1).clone()
        before = [kernel.detach().clone() for kernel in kernels]
        ours.step()
        theirs.step()
        for kernel, matrix, old in zip(kernels, matrices, before, strict=True):
            # The iteration that makes a step orthogonal works in bfloat16, in another order here.
            step, expected = kernel.detach() - old, matrix.detach().view_as(kernel) - old
            assert (step - expected).norm() < 0.02 * expected.norm()
            assert (step - expected).norm() < 1.0


def test_a_kernel_without_gradient_stays() -> None:
    kernel = nn.Parameter(torch.ones(4, 2, 3, 3).contiguous(memory_format=torch.channels_last))
    muon = KernelMuon([kernel], learning_rate=0.1, decay=0.5)
    muon.step()
    assert (kernel == 1.0).all()


def test_a_kernel_in_another_memory_format_is_refused() -> None:
    with pytest.raises(ValueError, match="needs kernels in channels_last memory"):
        KernelMuon([nn.Parameter(torch.ones(4, 2, 3, 3))], learning_rate=0.1, decay=0.0)


def test_it_has_the_kernels_between_pixels_and_codes() -> None:
    model = model_of(**{"model.network.num_fine_blocks": 1})
    chosen = names_of(model, inner_kernels(model))
    convolutions = {n for n, p in model.named_parameters() if p.dim() == 4}
    ends = {"encoder.body.0.0.weight", "encoder.head.weight", "decoder.to_pixels.weight"}
    assert ends < convolutions
    assert chosen == convolutions - ends
    depthwise = model_of(**{"model.network.depthwise_kernel": 5})
    seeing = {n for n, p in depthwise.named_parameters() if p.shape[1:] == (1, 5, 5)}
    assert seeing
    assert not seeing & names_of(depthwise, inner_kernels(depthwise))
    model.encoder.requires_grad_(requires_grad=False)
    assert {n.partition(".")[0] for n in names_of(model, inner_kernels(model))} == {"decoder"}


@pytest.mark.parametrize("case", ["vq", "gmvq", "vq_ema", "sqvae"])
def test_every_parameter_has_one_optimiser_at_its_rate(case: str) -> None:
    task = Task(tiny_settings(case, "images"))
    task.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    adamw, muon = build_optimisers(task, SETTINGS)
    assert {g["initial_lr"] for g in adamw.param_groups} == {2.0}
    assert [(g["initial_lr"], g["weight_decay"]) for g in muon.param_groups] == [(0.3, 0.5)]
    given = [p.data_ptr() for o in (adamw, muon) for g in o.param_groups for p in g["params"]]
    assert sorted(given) == sorted(p.data_ptr() for p in task.parameters())


def test_without_a_rate_there_is_adamw_alone() -> None:
    task = Task(tiny_settings("vq", "images"))
    assert len(build_optimisers(task, OptimiserSettings(learning_rate=2.0))) == 1


def test_a_run_moves_its_kernels_by_steps_of_even_singular_values(
    made_images: Path, tmp_path: Path
) -> None:
    settings = tiny_settings("gmvq", made_images, MUON | {"optimiser.warmup": 0.0})
    trainer = Trainer(settings, load_splits(settings.data), tmp_path)
    kernel = trainer.model.get_parameter("decoder.body.1.body.1.0.weight")
    before = kernel.detach().clone()
    trainer.num_steps = 1
    trainer.run()
    singular = torch.linalg.svdvals((kernel.detach() - before).flatten(1))
    assert singular.max() < 3.0 * singular.min()
    assert 0.01 < singular.max() < 0.03
