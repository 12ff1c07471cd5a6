"""Muon on the kernels of convolutions."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from models import Autoencoder


class KernelMuon(torch.optim.Muon):
    """Muon (Jordan 2024), which steps by orthogonal matrices, on kernels (O, I, k, k).

    PyTorch's takes matrices. A kernel in channels-last memory is one, (O, k k I), without a copy:
    to step that matrix is to step the kernel. Kernels must lie on their device already.

    Raises ValueError for a kernel in another memory format.
    """

    def __init__(self, kernels: Iterable[nn.Parameter], learning_rate: float, decay: float) -> None:
        self.kernels = list(kernels)
        matrices = [_matrix(kernel.detach()) for kernel in self.kernels]
        for kernel, matrix in zip(self.kernels, matrices, strict=True):
            if kernel.data_ptr() != matrix.data_ptr():
                raise ValueError("Muon needs kernels in channels_last memory")
        super().__init__(matrices, lr=learning_rate, weight_decay=decay)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        for kernel, matrix in zip(self.kernels, self.param_groups[0]["params"], strict=True):
            matrix.grad = None if kernel.grad is None else _matrix(kernel.grad)
        return super().step(closure)


def inner_kernels(model: Autoencoder) -> list[nn.Parameter]:
    """The kernels that are trained, but those that read or write pixels or give the head.

    Depthwise kernels are not among them: as a matrix, each of their rows is another channel's.
    """
    bodies = [*list(model.encoder.body)[1:], model.decoder.body]
    return [
        parameter
        for body in bodies
        for parameter in body.parameters()
        if parameter.dim() == 4 and parameter.shape[1] > 1 and parameter.requires_grad
    ]


def _matrix(kernel: Tensor) -> Tensor:
    return kernel.permute(0, 2, 3, 1).flatten(1)
