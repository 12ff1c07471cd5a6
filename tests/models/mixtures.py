"""GM-VQ on a few tokens in float64, and its formulas at what it has."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.information import entropy
from models.quantizers import Quantized
from models.quantizers.gmvq import GaussianMixtureQuantizer
from models.randomness import NORMAL_STREAM, Progress
from tests.models import few_tokens
from tests.models.few_tokens import TOKENS_PER_SAMPLE, tokens_of
from tests.models.mixture_oracle import Mixture
from tests.models.oracle import Array

K, D = 5, 3


def build(**options: Any) -> GaussianMixtureQuantizer:
    torch.manual_seed(0)
    quantizer = GaussianMixtureQuantizer(K, D, **options).double()
    nn.init.normal_(quantizer.codebook, mean=2.0)
    return quantizer


def random_head(quantizer: GaussianMixtureQuantizer) -> Tensor:
    """(SAMPLES, channels, SIDE, SIDE) float64 with vectors about (2, 2, 2)."""
    head = few_tokens.random_head(quantizer.head_channels).detach()
    head[:, :D] += 2.0
    return head.requires_grad_()


def formula(quantizer: GaussianMixtureQuantizer, head: Tensor, gumbel: Array | float) -> Mixture:
    return Mixture(
        heads=tokens_of(head),
        codebook=quantizer.codebook.detach().numpy(),
        offset=float(quantizer.offset),
        two_sigma2=quantizer.two_sigma2,
        gumbel=gumbel,
    )


def epsilon_of(given: Progress) -> Array:
    drawn = given.noise.normal(NORMAL_STREAM, TOKENS_PER_SAMPLE * D)
    return drawn.reshape(-1, D).double().numpy()


def gradients(quantizer: GaussianMixtureQuantizer, head: Tensor, loss: Tensor) -> tuple[Array, ...]:
    of_head, of_codes = torch.autograd.grad(loss, (head, quantizer.codebook))
    return tokens_of(of_head), of_codes.numpy()


def divergence(result: Quantized) -> Tensor:
    """KL(q̄ || uniform) in nats."""
    return np.log(K) - entropy(result.posterior.mean)
