"""What goes into a bitstream comes out of it, in no more bytes than its code length says."""

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.representative import few_of
from tests.vqtok.bitstream.made import (
    IDS,
    MadePrior,
    made_header,
    made_tables,
    made_tokens,
    stream_of,
)
from vqtok.bitstream import (
    CHOICES,
    CODERS,
    PRIOR,
    BitstreamReader,
    BitstreamWriter,
    Coding,
    StreamHeader,
    bits_per_image,
    stream_bytes,
)
from vqtok.errors import InvalidParameter, InvalidTokens
from vqtok.tokens import ImageTokens

GRIDS = {1: (1, 1), 64: (8, 8), 256: (16, 16)}


@pytest.mark.parametrize("codes", few_of([2, 1000, 1024, 65536], [2, 1000, 1024]))
@pytest.mark.parametrize("count", GRIDS)
@pytest.mark.parametrize("depth", [1, 2])
def test_tokens_survive_every_coder(codes: int, count: int, depth: int) -> None:
    grid = GRIDS[count]
    prior = MadePrior(2, codes, grid, depth)
    coding = Coding(codes, depth, made_tables(0, codes, grid, depth, clusters=2), prior)
    tokens = made_tokens(np.random.default_rng(1), codes, 7, grid, depth)
    # Codes that training never saw.
    tokens.reshape(-1)[0], tokens.reshape(-1)[-1] = codes - 1, codes - 2
    items = [ImageTokens(each, (30 + i, 40)) for i, each in enumerate(tokens)]
    for coder in (*CHOICES, PRIOR):
        if coder == "position" and count * depth * codes > 2**24:
            assert "too large" in str(coding.obstacle("position", grid))
            continue
        if coder == PRIOR and count * depth * codes > 2**20:
            continue
        stream = stream_of(items, coding, coder, 4)
        reader = BitstreamReader(stream, tables=coding.tables, prior=prior)
        chunks = list(reader.chunks())
        assert [chunk.header.num_images for chunk in chunks] == [4, 3]
        back = np.concatenate([chunk.tokens for chunk in chunks])
        assert np.array_equal(back, tokens)
        assert back.dtype == tokens.dtype
        assert [item.size for chunk in chunks for item in chunk.images] == [
            item.size for item in items
        ]


@settings(max_examples=40)
@given(data=st.data())
def test_mixed_grids_and_sizes_come_back_in_order(data: st.DataObject) -> None:
    depth = data.draw(st.sampled_from([1, 2]))
    coding = Coding(50, depth, made_tables(0, 50, (3, 4), depth))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    side = st.integers(1, 6)
    size = st.one_of(st.none(), st.tuples(st.integers(1, 2**31 - 1), st.integers(1, 9)))
    shapes = data.draw(st.lists(st.tuples(st.just((3, 4)) | st.tuples(side, side), size)))
    items = [ImageTokens(made_tokens(rng, 50, 1, grid, depth)[0], size) for grid, size in shapes]
    stream = stream_of(items, coding, chunk_images=data.draw(st.integers(1, 5)))
    back = list(BitstreamReader(stream, tables=coding.tables).images())
    assert [(item.grid, item.size) for item in back] == [(item.grid, item.size) for item in items]
    assert all(np.array_equal(a.tokens, b.tokens) for a, b in zip(back, items, strict=True))


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize(("codes", "count"), [(2, 256), (1000, 64), (1024, 1), (65536, 64)])
def test_sizes_are_the_code_length_and_32_bytes_a_chunk(coder: str, codes: int, count: int) -> None:
    grid = GRIDS[count]
    tables, prior = made_tables(3, codes, grid, clusters=2), MadePrior(3, codes, grid)
    coding = Coding(codes, 1, tables, prior)
    # A made prior is slow where there are many codes.
    num = min(300, max(3, 2**21 // (codes * count))) if coder == PRIOR else 300
    # Codes rarer than 2⁻²⁴ take less than they should.
    least = 0.98 if coder == PRIOR else 1
    tokens = made_tokens(np.random.default_rng(4), codes, num, grid)
    items = [ImageTokens(each, (32, 32)) for each in tokens]
    empty = len(stream_of([], coding, coder))
    taken = coding.bits(coder, tokens.reshape(num, *grid, 1))
    expected = float(taken.sum()) / 8
    for chunk_images in (1, 100, num):
        num_chunks = math.ceil(num / chunk_images)
        size = len(stream_of(items, coding, coder, chunk_images)) - empty
        assert least * expected - 1 <= size <= 1.01 * expected + 32 * num_chunks


def test_the_code_length_is_that_of_the_weights() -> None:
    """Held against the formulas of vqtok.bitstream.tables, in float64 and a token at a time."""
    tables = made_tables(5, 20, (3, 4), depth=2)
    tokens = made_tokens(np.random.default_rng(6), 20, 2, (3, 4), 2)
    sides = tables.num_clusters + 1
    joint = tables.context_counts.reshape(2, sides, sides, 20).astype(np.float64)
    for image, rates in zip(
        tokens, bits_per_image(list(tokens), Coding(20, 2, tables)), strict=True
    ):
        bits = dict.fromkeys(("static", "position", "context"), 0.0)
        for (row, column, level), code in np.ndenumerate(image):
            n_s, n_p, n_b, n_c = tables.smoothing[:, level]
            s = 16 * tables.usage[level] + n_s
            s = s / s.sum()
            place = tables.position_counts[row, column, level]
            of = [int(c) for c in tables.clusters[level]]
            left = of[image[row, column - 1, level]] if column else sides - 1
            above = of[image[row - 1, column, level]] if row else sides - 1
            behind = 0.0
            for counts in (joint[level, left].sum(0), joint[level, :, above].sum(0)):
                behind += (counts[code] + n_b * s[code]) / (counts.sum() + n_b) / 2
            here = joint[level, left, above]
            bits["static"] -= math.log2(s[code])
            bits["position"] -= math.log2((place[code] + n_p * s[code]) / (place.sum() + n_p))
            bits["context"] -= math.log2((here[code] + n_c * behind) / (here.sum() + n_c))
        assert {k: rates[k].bits for k in bits} == pytest.approx(bits, rel=1e-5)
        assert rates["fixed"].bits == 24 * 5


def test_bits_are_null_with_a_reason_where_a_coder_does_not_apply() -> None:
    tables = made_tables(5, 20, (3, 4))
    (native, other) = bits_per_image(
        [np.zeros((3, 4), int), np.zeros((4, 3), int)], Coding(20, 1, tables)
    )
    assert native["position"].bits is not None
    assert other["position"].bits is None
    assert other["position"].reason == "the grid 4x3 is not the native one, 3x4"
    assert other["context"].bits is not None
    assert other["prior"].reason == "the bundle holds no learned prior"
    (without,) = bits_per_image([np.zeros((3, 4), int)], Coding(20))
    assert without["static"].reason == "the bundle holds no coder tables"
    assert without["fixed"].bits == 60


def test_auto_takes_the_shortest_code_and_leaves_position_out_off_the_native_grid() -> None:
    tables = made_tables(5, 20, (3, 4))
    coding = Coding(20, 1, tables)
    rng = np.random.default_rng(0)
    for grid in ((3, 4), (5, 5)):
        tokens = made_tokens(rng, 20, 20, grid)
        chosen = coding.choose(tokens[..., None])
        rates = bits_per_image(list(tokens), coding)
        totals = {
            name: sum(each[name].bits or math.inf for each in rates)
            for name in ("fixed", "static", "position", "context")
        }
        best = min(totals, key=lambda name: totals[name])
        assert chosen == ("packed" if best == "fixed" else best)
    assert coding.choose(rng.integers(0, 20, (20, 5, 5, 1))) == "packed"
    with pytest.raises(InvalidParameter, match="the grid 5x5 is not the native one, 3x4"):
        stream_of([ImageTokens(np.zeros((5, 5), int))], coding, "position")


def test_chunks_are_read_in_any_order() -> None:
    coding = Coding(50, 1, made_tables(0, 50, (3, 4)))
    tokens = made_tokens(np.random.default_rng(0), 50, 23, (3, 4))
    stream = stream_of([ImageTokens(each) for each in tokens], coding, chunk_images=5)
    reader = BitstreamReader(io.BytesIO(stream), tables=coding.tables)
    places = reader.index()
    assert [place.first_image for place in places] == [0, 5, 10, 15, 20]
    for index in (4, 0, 2):
        chunk = reader.chunk(index)
        first = chunk.first_image
        assert np.array_equal(chunk.tokens, tokens[first : first + len(chunk.tokens)])
    with pytest.raises(InvalidParameter, match="no chunk 5"):
        reader.chunk(5)


def test_streams_go_through_files_and_iterators_of_bytes() -> None:
    coding = Coding(50, 1, made_tables(0, 50, (3, 4)))
    tokens = made_tokens(np.random.default_rng(0), 50, 11, (3, 4))
    items = [ImageTokens(each, (9, 9)) for each in tokens]
    whole = stream_of(items, coding, chunk_images=4)
    header = made_header(coding)
    file = io.BytesIO()
    with BitstreamWriter(file, header, coding, chunk_images=4) as writer:
        for item in items:
            writer.write(item)
    assert file.getvalue() == whole
    pieces = stream_bytes(iter(items), header, coding, chunk_images=4)
    back = BitstreamReader(pieces, tables=coding.tables)
    assert np.array_equal(np.concatenate([chunk.tokens for chunk in back.chunks()]), tokens)
    for step in (1, 7):
        cut = (whole[i : i + step] for i in range(0, len(whole), step))
        reader = BitstreamReader(cut, tables=coding.tables)
        assert {name: getattr(reader.header, name) for name in IDS} == IDS
        assert len(list(reader.images())) == 11
        with pytest.raises(InvalidParameter, match="only be read in their order"):
            reader.index()


def test_names_go_with_the_images() -> None:
    names = ["a.png", "b/ü.png", "", "line\nbreak"]
    file = io.BytesIO()
    with BitstreamWriter(file, StreamHeader(codebook_size=8), Coding(8), chunk_images=3) as writer:
        for name in names:
            writer.write(ImageTokens(np.zeros((1, 1), int)), name)
    chunks = BitstreamReader(file.getvalue()).chunks()
    assert [name for chunk in chunks for name in chunk.header.names] == names


def test_an_interrupted_writer_leaves_no_end_record() -> None:
    file = io.BytesIO()
    with (
        pytest.raises(InvalidTokens),
        BitstreamWriter(file, StreamHeader(codebook_size=8), Coding(8)) as writer,
    ):
        writer.write(ImageTokens(np.full((1, 1), 8)))
    assert file.getvalue() == writer.header.to_bytes()


def test_a_coder_is_refused_where_it_cannot_be() -> None:
    header = StreamHeader(codebook_size=8)
    with pytest.raises(InvalidParameter, match="no coder tables"):
        list(stream_bytes([], header, Coding(8), "static"))
    with pytest.raises(InvalidParameter, match="coder is one of auto, packed"):
        list(stream_bytes([], header, Coding(8), "zip"))


def test_a_position_table_that_would_be_too_large_is_left_out() -> None:
    tables = made_tables(0, 2**16, (1, 1), clusters=1)
    wide = np.broadcast_to(tables.position_counts, (17, 16, 1, 2**16))
    large = type(tables)(
        tables.usage, wide, tables.clusters, tables.context_counts, tables.smoothing
    )
    assert set(large.ids) == {"static", "context"}
    assert "too large" in str(Coding(2**16, 1, large).obstacle("position", (17, 16)))
