"""Priors over grids of 2 x 2 and three codes, whose 81 grids can all be written down."""

import itertools

import torch
from torch import Tensor

from models.priors import PRIORS, Prior, TokenShape, build_prior

TINY = TokenShape((2, 2), codebook_size=3, num_labels=2)
LEARNED = ("masked", "autoregressive")
OPTIONS = {"width": 16, "num_layers": 2, "num_heads": 2}


def all_grids(shape: TokenShape = TINY) -> Tensor:
    """Every grid, int64 (K^N, N)."""
    codes = range(shape.codebook_size)
    return torch.tensor(list(itertools.product(codes, repeat=shape.num_positions)))


def tiny_prior(name: str, shape: TokenShape = TINY, **options: object) -> Prior:
    """A prior with weights as after training: far from uniform, every label of its own."""
    assert name in PRIORS
    torch.manual_seed(7)
    chosen = OPTIONS | options if name in LEARNED else options
    prior = build_prior(name, shape, chosen)
    generator = torch.Generator().manual_seed(3)
    size = (shape.num_positions, shape.codebook_size)
    prior.begin(torch.randint(1, 50, size, generator=generator))
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.6, generator=generator)
    return prior.eval()
