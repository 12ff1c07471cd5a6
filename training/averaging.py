"""A moving average of the weights: what stochastic steps end around, without their last noise."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models import Autoencoder


class WeightAverage:
    """The exponential moving average of a model's parameters (Polyak and Juditsky 1992).

    Buffers are those of the model itself: counts and a codebook of moving averages are averages
    already, and the statistics of batch normalisation belong to other weights.
    """

    def __init__(self, model: Autoencoder, decay: float) -> None:
        self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def update(self, model: Autoencoder) -> None:
        """Move towards the model's parameters."""
        self._average.update_parameters(model)

    def state_dict(self) -> dict[str, Any]:
        return self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._average.load_state_dict(state)

    @torch.no_grad()
    def averaged(self, model: Autoencoder, batches: Iterable[Tensor]) -> Autoencoder:
        """A copy of the model with averaged parameters, its statistics taken from `batches`."""
        result = copy.deepcopy(model)
        average: nn.Module = self._average.module
        for own, mean in zip(result.parameters(), average.parameters(), strict=True):
            own.copy_(mean)
        recompute_statistics(result, batches)
        return result


@torch.no_grad()
def recompute_statistics(model: Autoencoder, batches: Iterable[Tensor]) -> None:
    """Set the running statistics of batch normalisation to their means over `batches`.

    The quantizer works as in evaluation, so that the decoder's are those of the tokens it will see.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        # None is the cumulative mean.
        norm.momentum = None
        norm.train()
    for pixels in batches:
        model(pixels)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
