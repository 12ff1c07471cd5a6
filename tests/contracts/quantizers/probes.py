"""What the laws put into a quantizer, and what they ask of it by its kind.

What a law says of depth 1 it says of each level where there are more.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.quantizers import Quantized, Quantizer
from models.randomness import Noise, Progress

SAMPLES, HEIGHT, WIDTH, NUM_STEPS = 5, 3, 2, 100

Make = Callable[..., Quantizer]


def spread(head: Tensor) -> Tensor:
    """Away from the origin, so that a missing centre would show."""
    return head + 1.5


def heads_for(quantizer: Quantizer, samples: int = SAMPLES, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (samples, quantizer.head_channels, HEIGHT, WIDTH)
    heads = torch.randn(shape, generator=generator)
    # Codes that do not start from heads cannot have followed them.
    return spread(heads) if starts_from_heads(quantizer) else heads


def progress(step: int = 30, seed: int = 0, samples: list[int] | None = None) -> Progress:
    chosen = torch.tensor(list(range(SAMPLES)) if samples is None else samples)
    return Progress(max(step, 0), NUM_STEPS, Noise(seed, step, chosen))


def code_tensors(quantizer: Quantizer) -> list[Tensor]:
    """The tables (K, D) that are trained, one for each level that has its own."""
    tensors = dict(quantizer.named_parameters()) | dict(quantizer.named_buffers())
    return [tensor for name, tensor in tensors.items() if name.split(".")[-1] == "codebook"]


def learns(quantizer: Quantizer) -> bool:
    """Whether anything of the quantizer comes from data."""
    return bool(quantizer.state_dict())


def starts_from_heads(quantizer: Quantizer) -> bool:
    return type(quantizer).initialise is not Quantizer.initialise


def tail_of(quantizer: Quantizer) -> tuple[int, ...]:
    """The axis that depth adds to tokens, posterior and code table."""
    return () if quantizer.depth == 1 else (quantizer.depth,)


def levels_of(tokens: Tensor, quantizer: Quantizer) -> list[Tensor]:
    """Tokens (B, h, w) of each level."""
    return [tokens] if quantizer.depth == 1 else list(tokens.unbind(-1))


def has_scores(quantizer: Quantizer) -> bool:
    return type(quantizer).scores is not Quantizer.scores


def compares_vectors(quantizer: Quantizer) -> bool:
    """Whether tokens are found by comparing the head with codes; Gumbel's head has the scores."""
    return quantizer.head_channels != quantizer.codebook_size


def assert_equal(first: Quantized, second: Quantized) -> None:
    """Bit by bit, with all terms and statistics."""
    tensors = [
        [*result[:3], *result.posterior, *result.pending.values()] for result in (first, second)
    ]
    for one, other in zip(*tensors, strict=True):
        assert torch.equal(one, other)
    for one, other in ((first.terms, second.terms), (first.statistics, second.statistics)):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert torch.equal(value, other[name]), name
