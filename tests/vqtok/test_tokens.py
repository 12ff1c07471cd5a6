"""Tokens: their dtype, and the check that comes before they are narrowed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqtok.errors import InvalidTokens, ModelFailure
from vqtok.tokens import (
    ImageTokens,
    ItemError,
    StackedTokens,
    TokenBatch,
    checked_tokens,
    token_dtype,
)

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4", ">u2"]


@pytest.mark.parametrize(
    ("size", "dtype"), [(2, "u2"), (65_536, "u2"), (65_537, "u4"), (2**32, "u4")]
)
def test_tokens_are_as_narrow_as_the_codebook_allows(size: int, dtype: str) -> None:
    assert token_dtype(size) == np.dtype(dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_every_integer_dtype_is_taken(dtype: str) -> None:
    tokens = checked_tokens(np.array([[0, 99]], dtype=dtype), codebook_size=100, depth=1)
    assert tokens.dtype == np.uint16
    assert tokens.tolist() == [[0, 99]]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "complex64", "object", "S1"])
def test_everything_that_is_no_integer_is_refused(dtype: str) -> None:
    with pytest.raises(InvalidTokens, match="must be integers"):
        checked_tokens(np.zeros((2, 2), dtype), codebook_size=100, depth=1)


@pytest.mark.parametrize("wrong", [-1, 100, 65_536, 65_536 + 5, 2**32 + 5, 2**63 - 1, -(2**63)])
def test_values_are_compared_before_they_could_wrap_round(wrong: int) -> None:
    with pytest.raises(InvalidTokens, match=rf"Token {wrong} is outside 0 \.\. 99"):
        checked_tokens(np.array([[0, wrong]], dtype=np.int64), codebook_size=100, depth=1)


def test_the_largest_unsigned_value_is_refused_as_itself() -> None:
    with pytest.raises(InvalidTokens, match=str(2**64 - 1)):
        checked_tokens(np.array([[2**64 - 1]], dtype=np.uint64), codebook_size=2**31, depth=1)


@pytest.mark.parametrize(
    ("shape", "depth"), [((4,), 1), ((), 1), ((2, 2), 2), ((2, 2, 3), 2), ((5, 2, 2, 3), 2)]
)
def test_another_rank_or_depth_is_refused(shape: tuple[int, ...], depth: int) -> None:
    with pytest.raises(InvalidTokens, match="this model's grid is"):
        checked_tokens(np.zeros(shape, np.int32), codebook_size=4, depth=depth)


@given(st.integers(2, 100_000), st.integers(-10, 100_010))
def test_a_token_is_taken_exactly_when_it_is_a_code(codebook_size: int, token: int) -> None:
    array = np.full((1, 1), token, dtype=np.int64)
    if 0 <= token < codebook_size:
        assert checked_tokens(array, codebook_size=codebook_size, depth=1).item() == token
    else:
        with pytest.raises(InvalidTokens):
            checked_tokens(array, codebook_size=codebook_size, depth=1)


def _batch(*items: ImageTokens | ItemError) -> TokenBatch:
    return TokenBatch(None, None, None, None, items)


def test_a_checked_batch_names_the_item_that_is_wrong() -> None:
    good = ImageTokens(np.zeros((2, 2), np.int64), (8, 8))
    bad = ImageTokens(np.full((2, 2), 7, np.int64), (8, 8))
    with pytest.raises(InvalidTokens, match=r"^Item 1: Token 7"):
        _batch(good, bad).checked(codebook_size=4, depth=1)


def test_a_checked_batch_keeps_sizes_and_failed_items() -> None:
    failed = ItemError("model_failure", "it failed")
    batch = _batch(ImageTokens(np.zeros((2, 3, 2), np.int64), (8, 9)), failed)
    checked = batch.checked(codebook_size=4, depth=2)
    first = checked.items[0]
    assert isinstance(first, ImageTokens)
    assert (first.tokens.dtype, first.grid, first.size) == (np.uint16, (2, 3, 2), (8, 9))
    assert checked.items[1] is failed


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 4, 4)])
def test_an_item_holds_exactly_one_grid(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidTokens, match="does not fit"):
        ImageTokens(np.zeros(shape, np.int64)).checked(codebook_size=4, depth=1)


def test_a_failed_item_is_raised_as_what_it_stands_for() -> None:
    error = ModelFailure("the model failed")
    with pytest.raises(ModelFailure, match="the model failed"):
        _ = _batch(ItemError.of(error)).images


def test_a_stack_is_its_images_one_by_one() -> None:
    tokens, margins = np.arange(24).reshape(3, 2, 4), np.ones((3, 2, 4), np.float32)
    stack = StackedTokens(tokens, (7, 9), margins)
    assert [item.tokens.tolist() for item in stack] == tokens.tolist()
    assert [item.size for item in stack] == [(7, 9)] * 3
    assert stack[-1].margin is not None
    assert stack[1:].tokens.tolist() == tokens[1:].tolist()
    assert StackedTokens(tokens)[0].margin is None


def test_a_stack_is_checked_as_its_images_are() -> None:
    tokens = np.zeros((3, 2, 2), np.int64)
    checked = _batch_of(StackedTokens(tokens)).checked(codebook_size=4, depth=1)
    assert isinstance(checked.items, StackedTokens)
    assert checked.items.tokens.dtype == np.uint16
    tokens[1, 0, 1] = 4
    with pytest.raises(InvalidTokens, match=r"^Item 1: Token 4 is outside 0 \.\. 3"):
        _batch_of(StackedTokens(tokens)).checked(codebook_size=4, depth=1)
    with pytest.raises(InvalidTokens, match=r"^Item 0: .* this model's grid is"):
        _batch_of(StackedTokens(np.zeros((3, 2, 2), np.int64))).checked(codebook_size=4, depth=2)


def _batch_of(stack: StackedTokens) -> TokenBatch:
    return TokenBatch(None, None, None, None, stack)
