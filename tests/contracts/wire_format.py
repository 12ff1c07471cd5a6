"""Laws that every wire format of tokens obeys. A format's own tests call these with its inputs."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from vqtok.errors import InvalidInput, NotAcceptable
from vqtok.tokens import ImageTokens, ItemError, TokenBatch
from vqtok.wire import DecodeOptions, EncodeOptions, WireFormat
from vqtok.wire.format import LAYOUTS, TOKEN_DTYPES

FIXTURES = Path(__file__).parents[1] / "fixtures" / "wire"

IDS = ("cifar10-gmvq@1", "ab" * 32, "cd" * 32, "pad")


def batch_of(*items: ImageTokens | ItemError) -> TokenBatch:
    """The items with a full set of labels."""
    return TokenBatch(*IDS, items)


def golden_batches() -> dict[str, TokenBatch]:
    """What the bytes under tests/fixtures/wire carry, by the name of the file."""
    grid = np.arange(12, dtype=np.uint16).reshape(3, 4)
    deep = np.arange(24, dtype=np.uint16).reshape(3, 4, 2)
    wide = np.array([[70_000, 0], [1, 2**32 - 1]], dtype=np.uint32)
    return {
        "two-images": batch_of(ImageTokens(grid, (10, 15)), ImageTokens(grid[::-1], (10, 15))),
        "residual": batch_of(ImageTokens(deep, (12, 16))),
        "large-codebook": batch_of(ImageTokens(wide, (8, 8))),
    }


def token_batches(*, mixed: bool) -> st.SearchStrategy[TokenBatch]:
    """Batches of one or, if `mixed`, of several grids and sizes; a tokenizer has one depth."""
    return st.one_of([_batches_on(depth, mixed) for depth in ((), (2,), (4,))])


def _batches_on(depth: tuple[int, ...], mixed: bool) -> st.SearchStrategy[TokenBatch]:
    side = st.integers(1, 5)
    grids = st.tuples(side, side).map(lambda grid: grid + depth)
    sizes = st.tuples(st.integers(1, 10_000), st.integers(1, 10_000))
    shape = st.tuples(grids, sizes)
    dtype = st.sampled_from([np.dtype(np.uint16), np.dtype(np.uint32)])
    shapes = st.lists(shape, min_size=1, max_size=4)
    if not mixed:
        shapes = st.tuples(shape, st.integers(1, 4)).map(lambda pair: [pair[0]] * pair[1])
    return st.builds(_random_batch, shapes, dtype, st.integers(0, 2**32 - 1))


def _random_batch(
    shapes: list[tuple[tuple[int, ...], tuple[int, int]]],
    dtype: np.dtype[np.unsignedinteger],
    seed: int,
) -> TokenBatch:
    rng = np.random.default_rng(seed)
    high = np.iinfo(dtype).max
    return batch_of(
        *(
            ImageTokens(rng.integers(0, high, grid, dtype, endpoint=True), size)
            for grid, size in shapes
        )
    )


def assert_same_tokens(back: TokenBatch, batch: TokenBatch) -> None:
    """Equal grids and values, item by item; dtypes may differ."""
    assert len(back) == len(batch)
    for got, sent in zip(back.images, batch.images, strict=True):
        np.testing.assert_array_equal(got.tokens, sent.tokens, strict=False)
        assert got.grid == sent.grid


def check_round_trip(fmt: WireFormat, batch: TokenBatch) -> None:
    """Every dtype and layout that can hold the batch brings back the same tokens and sizes."""
    high = max(int(item.tokens.max()) for item in batch.images)
    fitting = [each for each in TOKEN_DTYPES if high <= np.iinfo(each).max]
    beside = DecodeOptions() if fmt.carries_ids else DecodeOptions(size=batch.images[0].size)
    for layout in LAYOUTS:
        for dtype in (None, *fitting):
            body = fmt.encode_tokens(batch, EncodeOptions(dtype, layout))
            options = beside
            if layout == "flat" and not fmt.carries_ids:
                options = DecodeOptions(batch.images[0].grid, batch.images[0].size)
            back = fmt.decode_tokens(body, options)
            assert_same_tokens(back, batch)
            assert [item.size for item in back.images] == [item.size for item in batch.images]
            if fmt.carries_ids:
                assert (back.model, back.codebook_id, back.tokenizer_id, back.preprocess) == IDS


def check_flags(fmt: WireFormat) -> None:
    """What a format says it cannot carry it refuses with words; what it can it brings back."""
    one = ImageTokens(np.zeros((2, 2), np.uint16), (8, 8))
    mixed = batch_of(one, ImageTokens(np.zeros((2, 3), np.uint16), (8, 12)))
    other_size = batch_of(one, ImageTokens(np.zeros((2, 2), np.uint16), (7, 8)))
    failed = batch_of(one, ItemError("broken_image", "cut short"))
    for carries, batch in (
        (fmt.carries_mixed_sizes, mixed),
        (fmt.carries_mixed_sizes, other_size),
        (fmt.carries_errors, failed),
    ):
        if carries:
            back = fmt.decode_tokens(
                fmt.encode_tokens(batch, EncodeOptions()), DecodeOptions(answer=True)
            )
            kinds = [type(item) for item in batch.items]
            assert [type(item) for item in back.items] == kinds
        else:
            with pytest.raises(NotAcceptable, match="application/json"):
                fmt.encode_tokens(batch, EncodeOptions())


def check_cut_short(fmt: WireFormat, batch: TokenBatch) -> None:
    """Every beginning of a body is refused, and a body with one more byte as well."""
    body = fmt.encode_tokens(batch, EncodeOptions())
    for bad in [*(body[:end] for end in range(len(body))), body + b"0"]:
        with pytest.raises(InvalidInput):
            fmt.decode_tokens(bad, DecodeOptions())


def check_never_crashes(fmt: WireFormat, body: bytes) -> None:
    """Any bytes at all decode or are refused as the caller's fault."""
    for options in (DecodeOptions(), DecodeOptions(grid=(2, 2)), DecodeOptions(answer=True)):
        with contextlib.suppress(InvalidInput):
            batch = fmt.decode_tokens(body, options)
            assert all(isinstance(item, ItemError) or item.tokens.size for item in batch.items)


def check_golden(fmt: WireFormat, folder: str) -> None:
    """Bytes written once are read for ever, and today's writer writes the same."""
    batches = golden_batches()
    files = sorted((FIXTURES / folder).iterdir())
    assert [file.stem for file in files] == sorted(batches)
    for file in files:
        batch = batches[file.stem]
        body = file.read_bytes()
        assert_same_tokens(fmt.decode_tokens(body, DecodeOptions()), batch)
        assert fmt.encode_tokens(batch, EncodeOptions()) == body
