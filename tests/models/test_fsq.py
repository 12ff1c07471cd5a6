"""FSQ against the paper's formula: bounds, digits, gradient, margins, and all of its codes."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from models.quantizers.base import to_tokens
from models.quantizers.fsq import FiniteScalarQuantizer
from tests.models.oracle import Array, Indices

LEVELS = [[8, 5, 5, 5], [3, 4], [7], [4, 3, 6]]
EVERY = pytest.mark.parametrize("levels", LEVELS, ids=str)


def bounded(z: Array, levels: list[int]) -> Array:
    """arXiv 2309.15505, appendix A.1, with atanh for tan: z (N, D)."""
    columns = []
    for column, level in zip(z.T, levels, strict=True):
        half = (level - 1) * (1 - 1e-3) / 2
        offset = 0.5 if level % 2 == 0 else 0.0
        columns.append(half * np.tanh(column + math.atanh(offset / half)) - offset)
    return np.stack(columns, axis=1)


def digits(z: Array, levels: list[int]) -> Indices:
    return np.rint(bounded(z, levels)).astype(np.int64) + np.array(levels) // 2


def tokens(z: Array, levels: list[int]) -> Indices:
    """Mixed radix, the first digit counting least."""
    place_values = np.cumprod([1, *levels[:-1]])
    return (digits(z, levels) * place_values).sum(1)


def codes(z: Array, levels: list[int]) -> Array:
    half_width = np.array(levels) // 2
    return (digits(z, levels) - half_width) / half_width


def boundary_distance(z: Array, levels: list[int]) -> Array:
    """To the nearest of the boundaries between two levels, in half steps, least over channels."""
    nearest = []
    for column, level in zip(bounded(z, levels).T, levels, strict=True):
        inner = np.arange(level - 1) - level // 2 + 0.5
        nearest.append(np.abs(column[:, None] - inner).min(1) / 0.5)
    return np.minimum(np.stack(nearest).min(0), 1.0)


def head_of(levels: list[int], seed: int = 0, scale: float = 1.5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    head = torch.randn(6, len(levels), 5, 4, dtype=torch.double, generator=generator)
    return (scale * head).requires_grad_()


@EVERY
@pytest.mark.parametrize("training", [True, False])
def test_forward_values_are_the_formulas(levels: list[int], training: bool) -> None:
    head = head_of(levels)
    z = to_tokens(head.detach()).numpy()
    result = FiniteScalarQuantizer(levels).double().train(training)(head, None)
    assert (result.indices.flatten().numpy() == tokens(z, levels)).all()
    expected = codes(z, levels)
    np.testing.assert_allclose(to_tokens(result.z_q.detach()), expected, rtol=1e-6, atol=1e-12)
    before = bounded(z, levels) / (np.array(levels) // 2)
    np.testing.assert_allclose(to_tokens(result.z_e), before, rtol=1e-10, atol=1e-12)
    assert result.terms == {}


@EVERY
def test_the_gradient_is_that_of_the_bound(levels: list[int]) -> None:
    """Rounding is passed straight through: dz_q/dz = half (1 - tanh²) / half width."""
    head = head_of(levels)
    pull = torch.randn(head.shape).double()
    (pull * FiniteScalarQuantizer(levels).double().train()(head, None).z_q).sum().backward()
    z, sizes = to_tokens(head.detach()).numpy(), np.array(levels)
    half, offset = (sizes - 1) * (1 - 1e-3) / 2, 0.5 * (sizes % 2 == 0)
    slope = half * (1 - np.tanh(z + np.arctanh(offset / half)) ** 2) / (sizes // 2)
    assert head.grad is not None
    expected = to_tokens(pull).numpy() * slope
    np.testing.assert_allclose(to_tokens(head.grad), expected, rtol=1e-9)


@EVERY
def test_margins_are_distances_to_the_boundaries(levels: list[int]) -> None:
    head = head_of(levels)
    margins = FiniteScalarQuantizer(levels).double().assign(head)[1].detach().flatten()
    expected = boundary_distance(to_tokens(head.detach()).numpy(), levels)
    np.testing.assert_allclose(margins, expected, rtol=1e-9, atol=1e-12)
    assert margins.min() < 0.2
    middle = FiniteScalarQuantizer(levels).assign(torch.zeros(1, len(levels), 1, 1))[1]
    assert middle.item() == pytest.approx(1.0, abs=1e-6)


@EVERY
def test_the_code_table_is_the_grid_in_the_order_of_the_tokens(levels: list[int]) -> None:
    table = FiniteScalarQuantizer(levels).code_table().numpy()
    digits_of = np.stack(np.unravel_index(np.arange(len(table)), levels, order="F"), axis=1)
    half_width = np.array(levels) // 2
    np.testing.assert_allclose(table, (digits_of - half_width) / half_width, rtol=1e-6)
    assert len(np.unique(table, axis=0)) == math.prod(levels)


def centres(levels: list[int]) -> Tensor:
    """(K, D, 1, 1): for each code a vector that lies well inside it."""
    sizes = np.array(levels)
    half, offset = (sizes - 1) * (1 - 1e-3) / 2, 0.5 * (sizes % 2 == 0)
    grid = np.stack(np.unravel_index(np.arange(math.prod(levels)), levels, order="F"), axis=1)
    inside = np.clip((grid - sizes // 2 + offset) / half, -0.99, 0.99)
    return torch.from_numpy(np.arctanh(inside) - np.arctanh(offset / half))[:, :, None, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_code_is_reached_from_half_precision_too(dtype: torch.dtype) -> None:
    """bfloat16 has no whole numbers above 256 but every second, and later every fourth."""
    levels = [8, 5, 5, 5]
    quantizer, head = FiniteScalarQuantizer(levels).to(dtype), centres(levels).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        for found in (quantizer(head, None).indices, quantizer.assign(head)[0]):
            assert torch.equal(found.flatten(), torch.arange(1000))
    assert torch.equal(to_tokens(quantizer(head, None).z_q), quantizer.code_table())


def test_tokens_above_what_float32_counts_are_exact() -> None:
    levels = [64] * 5
    quantizer = FiniteScalarQuantizer(levels)
    assert quantizer.codebook_size == 2**30
    digit = torch.tensor([63, 62, 63, 63, 63])
    bound = (digit - 32 + 0.5) / (63 * 0.5 * (1 - 1e-3))
    head = bound.clamp_max(0.99999).atanh() - math.atanh(0.5 / (63 * 0.5 * (1 - 1e-3)))
    tokens, _ = quantizer.assign(head[None, :, None, None])
    assert tokens.item() == 2**30 - 1 - 64


def test_nothing_is_trained_and_nothing_saved() -> None:
    quantizer = FiniteScalarQuantizer([5, 4])
    assert not list(quantizer.parameters())
    assert quantizer.state_dict() == {}


def test_other_levels_are_another_tokenizer() -> None:
    """5 x 4 and 4 x 5 have tokens alike and mean other cells: the code table tells them apart."""
    first, second = (FiniteScalarQuantizer(levels).code_table() for levels in ([5, 4], [4, 5]))
    assert first.shape == second.shape
    assert not torch.equal(first, second)


@pytest.mark.parametrize("levels", [[], [2], [8, 2], [5, 0], [5, -3]])
def test_levels_below_three_are_refused(levels: list[int]) -> None:
    with pytest.raises(ValueError, match="levels are at least 3 for each channel"):
        FiniteScalarQuantizer(levels)


def test_more_codes_than_tokens_can_count_are_refused() -> None:
    with pytest.raises(ValueError, match="4294967296 codes, more than tokens can count"):
        FiniteScalarQuantizer([256] * 4)
