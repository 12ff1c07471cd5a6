"""The coder `prior`: exact, never by accident, and read where it was written alone."""

import io
import math
from collections.abc import Generator
from contextlib import contextmanager
from decimal import Decimal, getcontext
from pathlib import Path
from typing import Any, cast

import constriction  # pyright: ignore[reportMissingTypeStubs]
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vqtok.bitstream.made import MadePrior, made_header, made_tables, made_tokens, stream_of
from tests.vqtok.bitstream.test_damage import check_damage, read_until_damage
from tests.vqtok.tiny_bundle import smooth_images, write_tiny_bundle
from vqtok.bitstream import (
    CODERS,
    PRIOR,
    BitstreamReader,
    Coding,
    StreamEncoder,
    bits_per_image,
    stream_bytes,
)
from vqtok.bitstream.learned import weights_of
from vqtok.errors import (
    BitstreamDamaged,
    InvalidParameter,
    ModelFailure,
    RuntimeMismatch,
    TableMismatch,
)
from vqtok.tokenizer import Tokenizer
from vqtok.tokens import ImageTokens

GRID, CODES = (3, 4), 20
SEVEN = made_tokens(np.random.default_rng(1), CODES, 7, GRID)


def made(seed: int = 0, **changes: Any) -> MadePrior:
    prior = MadePrior(seed, CODES, GRID)
    for name, value in changes.items():
        setattr(prior, name, value)
    return prior


def items(tokens: NDArray[Any]) -> list[ImageTokens]:
    return [ImageTokens(each) for each in tokens]


@contextmanager
def opened(folder: Path, **options: Any) -> Generator[tuple[Coding, NDArray[Any]]]:
    """The coders of a tiny bundle with a learned prior, and the tokens of forty images."""
    with Tokenizer.open(write_tiny_bundle(folder, prior=True, **options), "cpu") as tokenizer:
        batch = tokenizer.encode(list(smooth_images(40, 32, 32))).images
        yield tokenizer.coding, np.stack([item.tokens for item in batch])


@pytest.mark.parametrize("depth", [1, 2])
def test_tokens_survive_a_graph_in_onnxruntime(tmp_path: Path, depth: int) -> None:
    with opened(tmp_path, depth=depth) as (coding, tokens):
        stream = stream_of(items(tokens), coding, PRIOR, 16)
        reader = BitstreamReader(io.BytesIO(stream), tables=coding.tables, prior=coding.prior)
        chunks = list(reader.chunks())
        assert [chunk.header.coder for chunk in chunks] == [16, 16, 16]
        assert np.array_equal(np.concatenate([chunk.tokens for chunk in chunks]), tokens)
        assert np.array_equal(reader.chunk(1).tokens, tokens[16:32])


@pytest.mark.parametrize("depth", [1, 2])
def test_what_a_prior_draws_takes_its_code_length_and_32_bytes_a_chunk(
    tmp_path: Path, depth: int
) -> None:
    with Tokenizer.open(write_tiny_bundle(tmp_path, prior=True, depth=depth), "cpu") as tokenizer:
        drawn, coding = tokenizer.sample(40, seed=3), tokenizer.coding
        assert [rates[PRIOR].bits for rates in tokenizer.bits_per_image(drawn.tokens)] == (
            pytest.approx(drawn.bits.tolist())
        )
        empty = len(stream_of([], coding, PRIOR))
        for chunk_images in (1, 16, 40):
            stream = stream_of(list(drawn.tokens.images), coding, PRIOR, chunk_images)
            expected, num_chunks = drawn.bits.sum() / 8, math.ceil(40 / chunk_images)
            assert expected - 1 <= len(stream) - empty <= 1.01 * expected + 32 * num_chunks


@pytest.mark.parametrize("depth", [1, 2])
def test_the_payload_is_what_the_page_of_the_format_says(depth: int) -> None:
    """Read by the formulas, a token at a time, each with a model of its own."""
    prior, tokens = (
        MadePrior(3, 50, GRID, depth),
        made_tokens(np.random.default_rng(4), 50, 5, GRID, depth),
    )
    coding = Coding(50, depth, prior=prior)
    payload = coding.encode(PRIOR, tokens.reshape(5, *GRID, depth))
    stream = cast("Any", constriction).stream
    decoder = stream.queue.RangeDecoder(np.frombuffer(payload, "<u4").astype(np.uint32))
    found = np.full((5, tokens[0].size), 50, np.int32)
    for group in range(int(prior.groups.max()) + 1):
        known = found.copy()
        places = np.flatnonzero(prior.groups == group).astype(np.int32)
        for image in range(5):
            logits = prior.logits(known[[image]], np.zeros(1, np.int32), places[None])[0]
            for place, row in zip(places, logits.astype(np.float64), strict=True):
                steps = np.rint((row.max() - row) * 1024)
                weights = [math.floor(2**24 * math.exp(-step / 1024)) + 1.0 for step in steps]
                model = stream.model.Categorical(np.array(weights), perfect=False, lazy=False)
                found[image, place] = decoder.decode(model)
    assert np.array_equal(found, tokens.reshape(5, -1))


def test_weights_are_those_of_the_formula_to_the_last_integer() -> None:
    getcontext().prec = 60
    steps = np.array([0, 1, 2, 3, 700, 1024, 5000, 10000, 17000, 17034, 17035, 17036, 17037, 20000])
    expected = [int(Decimal(2**24) * (Decimal(-int(step)) / 1024).exp()) + 1 for step in steps]
    assert weights_of(-steps / 1024.0).tolist() == expected
    assert expected[0] == 2**24 + 1
    assert expected[-1] == 1
    halves = weights_of(np.array([0.0, -0.5 / 1024, -1.5 / 1024]))
    assert halves.tolist() == [expected[0], expected[0], expected[2]]


def test_weights_cost_next_to_nothing() -> None:
    rng = np.random.default_rng(0)
    for spread in (0.1, 3, 12):
        logits = (spread * rng.normal(size=(20, 1024))).astype(np.float32)
        p = np.exp(logits.astype(np.float64))
        p /= p.sum(axis=1, keepdims=True)
        q = weights_of(logits).astype(np.float64)
        q /= q.sum(axis=1, keepdims=True)
        assert 0 <= (p * np.log2(p / q)).sum(axis=1).max() < 1e-3


def test_a_code_that_cannot_be_is_coded_all_the_same() -> None:
    assert weights_of(np.array([[0.0, -np.inf, -1e30]])).tolist() == [[2**24 + 1, 1, 1]]
    for wrong in (np.nan, np.inf):
        with pytest.raises(ModelFailure, match="no numbers"):
            weights_of(np.array([[0.0, wrong]]))


def test_nobody_gets_it_who_does_not_ask_for_it() -> None:
    """Not even where its code is the shortest by far."""
    prior, tables = made(), made_tables(0, CODES, GRID)
    drawn = np.zeros((9, *GRID), np.int64)
    flat = drawn.reshape(9, -1)
    for group in range(4):
        known = np.where(prior.groups < group, flat, CODES).astype(np.int32)
        places = np.flatnonzero(prior.groups == group).astype(np.int32)
        logits = prior.logits(known, np.zeros(9, np.int32), np.tile(places, (9, 1)))
        flat[:, places] = logits.argmax(axis=-1)
    coding = Coding(CODES, 1, tables, prior)
    rates = bits_per_image(list(drawn), coding)
    assert all(
        (each[PRIOR].bits or math.inf) < (each[name].bits or 0) / 2
        for each in rates
        for name in ("fixed", "context")
    )
    reader = BitstreamReader(stream_of(items(drawn), coding, "auto"), tables=tables)
    assert coding.choose(drawn[..., None]) != PRIOR
    assert CODERS[PRIOR].number not in reader.header.table_ids
    assert reader.header.runtime is None
    assert len(list(reader.images())) == 9


def test_it_takes_a_word_to_write_it() -> None:
    coding = Coding(CODES, prior=made())
    header = made_header(coding)
    with pytest.raises(InvalidParameter, match="Say machine_bound"):
        StreamEncoder(header, coding, PRIOR)
    with pytest.raises(InvalidParameter, match=r"machine_bound.*every machine reads coder=packed"):
        list(stream_bytes([], header, coding, "packed", machine_bound=True))
    with pytest.raises(InvalidParameter, match="no learned prior"):
        StreamEncoder(header, Coding(CODES), PRIOR, machine_bound=True)


def test_another_runtime_is_refused_before_anything_is_decoded() -> None:
    stream = stream_of(items(SEVEN), Coding(CODES, prior=made()), PRIOR)

    def run(*_: object) -> None:
        raise AssertionError("nothing may be decoded")

    other = made(runtime="another runtime, AVX-512", logits=run)
    words = r"Chunk 0 .* ran on a made runtime, and here it runs on another runtime, AVX-512\."
    with pytest.raises(RuntimeMismatch, match=words):
        list(BitstreamReader(stream, prior=other).chunks())


def test_another_prior_or_none_is_named() -> None:
    coding, other = Coding(CODES, prior=made()), Coding(CODES, prior=made(1))
    stream = stream_of(items(SEVEN), coding, PRIOR)
    words = f"{coding.table_ids[PRIOR]}, and the one here is {other.table_ids[PRIOR]}"
    with pytest.raises(TableMismatch, match=words):
        list(BitstreamReader(stream, prior=other.prior).chunks())
    for tables in (None, made_tables(0, CODES, GRID)):
        with pytest.raises(
            InvalidParameter, match=f"{coding.table_ids[PRIOR]}, and it is not here"
        ):
            list(BitstreamReader(stream, tables=tables).chunks())


def test_the_id_is_that_of_graph_and_schedule() -> None:
    prior = made()
    regrouped = made(groups=np.roll(prior.groups, 1))
    ids = {Coding(CODES, prior=each).table_ids[PRIOR] for each in (prior, made(1), regrouped)}
    assert len(ids) == 3
    assert (
        Coding(CODES, prior=made(runtime="any")).table_ids == Coding(CODES, prior=prior).table_ids
    )


def test_what_the_names_do_not_tell_the_checksum_does() -> None:
    stream = stream_of(items(SEVEN), Coding(CODES, prior=made()), PRIOR)
    plain = made().logits
    for change in (0.01, 1.0):

        def other(*asked: Any, change: float = change) -> NDArray[np.float32]:
            logits = plain(*asked)
            logits[..., ::2] += np.float32(change)
            return logits

        chunks, error = read_until_damage(stream, None, made(logits=other))
        assert not chunks
        assert error.part == "tokens"
        assert "another model or table" in error.detail


def test_a_prior_that_does_not_repeat_itself_writes_nothing() -> None:
    rng, plain = np.random.default_rng(0), made().logits

    def noisy(*asked: Any) -> NDArray[np.float32]:
        logits = plain(*asked)
        return logits + rng.normal(size=logits.shape).astype(np.float32)

    with pytest.raises(ModelFailure, match="other numbers when it is run again"):
        stream_of(items(SEVEN), Coding(CODES, prior=made(logits=noisy)), PRIOR)


def test_other_grids_than_the_native_one_are_refused() -> None:
    coding = Coding(CODES, prior=made())
    other = made_tokens(np.random.default_rng(2), CODES, 1, (4, 3))
    with pytest.raises(InvalidParameter, match="the grid 4x3 is not the native one, 3x4"):
        stream_of(items(other), coding, PRIOR)
    (rates,) = bits_per_image(list(other), coding)
    assert rates[PRIOR].bits is None
    assert rates[PRIOR].reason == "the grid 4x3 is not the native one, 3x4"
    with pytest.raises(InvalidParameter, match="another codebook size or depth"):
        Coding(CODES + 1, prior=made())


def test_every_damaged_byte_is_found_and_named() -> None:
    prior = made()
    stream = stream_of(items(SEVEN), Coding(CODES, prior=prior), PRIOR, 3)
    seen = check_damage(stream, SEVEN, None, range(len(stream)), prior)
    assert seen.total() == len(stream)
    assert set(seen) == {"header", "chunk header", "payload", "end record"}


def test_a_payload_cut_to_other_lengths_is_damage() -> None:
    coding = Coding(CODES, prior=made())
    tokens = SEVEN[..., None]
    payload = coding.encode(PRIOR, tokens)
    with pytest.raises(BitstreamDamaged, match="words of 4 bytes"):
        coding.decode(PRIOR, payload[:-1], tokens.shape)
