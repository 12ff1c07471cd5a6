"""Whatever happens to the bytes of a bitstream is found out, and said in words."""

import io
import random
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.vqtok.bitstream.made import made_tables, made_tokens, stream_of
from vqtok.bitstream import (
    PORTABLE,
    BitstreamReader,
    Chunk,
    CoderTables,
    Coding,
    CodingPrior,
    StreamHeader,
)
from vqtok.bitstream.layout import MAGIC, START, TAIL, crc16
from vqtok.errors import (
    BitstreamDamaged,
    BitstreamTruncated,
    BitstreamUnsupported,
    CodebookMismatch,
    InvalidInput,
    InvalidParameter,
    MalformedBody,
    TableMismatch,
)
from vqtok.identity import ContentId
from vqtok.tokens import ImageTokens


@pytest.fixture(scope="module")
def stream(real_tokens: NDArray[np.uint16], real_tables: CoderTables) -> bytes:
    """A hundred real images in four chunks, each by the shortest code."""
    items = [ImageTokens(each, (32, 32)) for each in real_tokens]
    return stream_of(items, Coding(1024, 1, real_tables), chunk_images=25)


def parts_of(stream: bytes) -> list[str]:
    """What every byte of a whole stream belongs to."""
    reader = BitstreamReader(io.BytesIO(stream))
    parts = ["header"] * reader.index()[0].offset
    for chunk in reader.scan():
        own = chunk.place.num_bytes - chunk.header.payload_bytes
        parts += ["chunk header"] * own + ["payload"] * chunk.header.payload_bytes
    return parts + ["end record"] * (len(stream) - len(parts))


def read_until_damage(
    stream: bytes, tables: CoderTables | None, prior: CodingPrior | None = None
) -> tuple[list[Chunk], BitstreamDamaged]:
    """The chunks that come out before the reader complains."""
    chunks: list[Chunk] = []
    with pytest.raises(BitstreamDamaged) as raised:
        chunks.extend(BitstreamReader(stream, tables=tables, prior=prior).chunks())
    return chunks, raised.value


def check_damage(
    stream: bytes,
    tokens: NDArray[Any],
    tables: CoderTables | None,
    places: Iterable[int],
    prior: CodingPrior | None = None,
) -> Counter[str]:
    """Damage bytes one at a time: each is named, and no chunk that comes out is wrong."""
    rng, parts = random.Random(0), parts_of(stream)
    seen = Counter[str]()
    for place in places:
        damaged = bytearray(stream)
        damaged[place] ^= rng.randrange(1, 256)
        chunks, error = read_until_damage(bytes(damaged), tables, prior)
        for chunk in chunks:
            last = chunk.first_image + len(chunk.tokens)
            assert np.array_equal(chunk.tokens, tokens[chunk.first_image : last])
        expected = {parts[place]}
        if parts[place] == "end record" and place < len(stream) - TAIL.size:
            # A damaged beginning does not say any more of which record it was.
            expected.add("chunk header")
        assert error.part in expected, (place, error)
        assert error.part.split()[0] in error.detail or error.part == "end record"
        assert not isinstance(error, BitstreamTruncated)
        seen[parts[place]] += 1
    return seen


def test_damaged_headers_and_a_sample_of_the_payloads_are_named(
    stream: bytes, real_tokens: NDArray[np.uint16], real_tables: CoderTables
) -> None:
    parts = parts_of(stream)
    places = [i for i, part in enumerate(parts) if part != "payload" or i % 40 == 0]
    seen = check_damage(stream, real_tokens, real_tables, places)
    assert set(seen) == {"header", "chunk header", "payload", "end record"}


@pytest.mark.slow
def test_every_damaged_byte_is_found_and_named(
    stream: bytes,
    real_tokens: NDArray[np.uint16],
    real_tables: CoderTables,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = check_damage(stream, real_tokens, real_tables, range(len(stream)))
    with capsys.disabled():
        print(f"\n{seen.total():,} damaged streams: {dict(seen)}")  # noqa: T201
    assert seen.total() == len(stream)


def test_what_lies_before_the_damage_is_whole(
    stream: bytes, real_tables: CoderTables, real_tokens: NDArray[np.uint16]
) -> None:
    place = BitstreamReader(io.BytesIO(stream)).index()[2]
    damaged = bytearray(stream)
    damaged[place.offset + place.num_bytes - 1] ^= 1
    chunks, error = read_until_damage(bytes(damaged), real_tables)
    assert error.part == "payload"
    assert "chunk 2" in error.detail
    assert np.array_equal(np.concatenate([chunk.tokens for chunk in chunks]), real_tokens[:50])
    reader = BitstreamReader(io.BytesIO(bytes(damaged)), tables=real_tables)
    assert np.array_equal(reader.chunk(3).tokens, real_tokens[75:])
    assert [each.damage is None for each in reader.scan()] == [True, True, False, True]


def test_a_stream_cut_short_gives_the_whole_chunks_before_the_break(
    stream: bytes, real_tables: CoderTables, real_tokens: NDArray[np.uint16]
) -> None:
    places = BitstreamReader(io.BytesIO(stream)).index()
    boundaries = [place.offset for place in places]
    boundaries.append(places[-1].offset + places[-1].num_bytes)
    rng = random.Random(1)
    drawn = [rng.randrange(boundaries[0], len(stream)) for _ in range(60)]
    for length in [*boundaries, *drawn, len(stream) - 1]:
        chunks, error = read_until_damage(stream[:length], real_tables)
        assert isinstance(error, BitstreamTruncated)
        assert len(chunks) == sum(length >= end for end in boundaries[1:])
        got = [item.tokens for chunk in chunks for item in chunk.images]
        assert np.array_equal(np.array(got or real_tokens[:0]), real_tokens[: len(got)])
        with pytest.raises(BitstreamDamaged, match=r"last 8 bytes|end record"):
            BitstreamReader(io.BytesIO(stream[:length])).index()


@pytest.mark.slow
def test_a_stream_cut_at_any_byte_gives_the_whole_chunks_before_the_break(
    real_tokens: NDArray[np.uint16],
) -> None:
    whole = stream_of([ImageTokens(each) for each in real_tokens], Coding(1024), "packed", 25)
    places = BitstreamReader(io.BytesIO(whole)).index()
    ends = [place.offset + place.num_bytes for place in places]
    for length in range(places[0].offset, len(whole)):
        chunks, error = read_until_damage(whole[:length], None)
        assert isinstance(error, BitstreamTruncated)
        assert len(chunks) == sum(length >= end for end in ends)
        for chunk, place in zip(chunks, places, strict=False):
            last = place.first_image + place.num_images
            assert np.array_equal(chunk.tokens, real_tokens[place.first_image : last])
    for length in range(places[0].offset):
        with pytest.raises(MalformedBody, match="ends within its header" if length else "no vqtok"):
            BitstreamReader(whole[:length])


@pytest.mark.slow
def test_the_tokens_of_another_model_are_never_given_out(
    stream: bytes, real_tokens: NDArray[np.uint16], real_tables: CoderTables
) -> None:
    """Each table that is off by one count has another id, and with the same id other tokens."""
    rng = np.random.default_rng(0)
    for name in ("usage", "position_counts", "context_counts", "clusters"):
        for _ in range(10):
            changed = getattr(real_tables, name).copy()
            # A code that the tokens have, so that the change is one to them.
            code = int(rng.choice(real_tokens.reshape(-1)))
            changed[..., code] += 1000 if name != "clusters" else 1
            changed %= 8 if name == "clusters" else np.iinfo(np.int32).max
            other = replace(real_tables, **{name: changed})
            moved = {coder for coder in other.ids if other.ids[coder] != real_tables.ids[coder]}
            assert moved
            for coder in moved:
                own = stream_of([ImageTokens(each) for each in real_tokens],
                                Coding(1024, 1, real_tables), coder)  # fmt: skip
                with pytest.raises(TableMismatch):
                    list(BitstreamReader(own, tables=other).chunks())
                forged = replace(real_tables, **{name: changed})
                forged.__dict__["ids"] = real_tables.ids
                chunks, error = read_until_damage(own, forged)
                assert not chunks
                assert error.part == "tokens"


@pytest.mark.parametrize("length", range(40))
def test_a_header_cut_short_is_no_stream_or_a_cut_one(stream: bytes, length: int) -> None:
    with pytest.raises(MalformedBody, match="ends within its header" if length else "no vqtok"):
        BitstreamReader(stream[:length])


def test_bytes_after_the_end_are_damage(stream: bytes, real_tables: CoderTables) -> None:
    chunks, error = read_until_damage(stream + b"0", real_tables)
    assert len(chunks) == 4
    assert (error.part, error.detail) == ("end record", "Bytes follow the end of the bitstream.")


def test_a_chunk_that_is_taken_out_is_missed(stream: bytes, real_tables: CoderTables) -> None:
    place = BitstreamReader(io.BytesIO(stream)).index()[1]
    shorter = stream[: place.offset] + stream[place.offset + place.num_bytes :]
    chunks, error = read_until_damage(shorter, real_tables)
    assert len(chunks) == 3
    assert error.part == "end record"
    assert "other chunks" in error.detail


def test_another_codebook_is_named_beside_ones_own(stream: bytes) -> None:
    with pytest.raises(CodebookMismatch, match=r"abababababab.*121212121212"):
        BitstreamReader(stream, codebook_id=ContentId("12" * 32))
    BitstreamReader(stream, codebook_id=ContentId("ab" * 32))


def test_other_tables_are_named_beside_those_of_the_stream(real_tokens: NDArray[np.uint16]) -> None:
    old, new = made_tables(0, 1024, (8, 8)), made_tables(1, 1024, (8, 8))
    items = [ImageTokens(each) for each in real_tokens[:3]]
    for coder in set(PORTABLE) - {"packed"}:
        stream = stream_of(items, Coding(1024, 1, old), coder)
        with pytest.raises(TableMismatch, match=f"{old.ids[coder]}.*{new.ids[coder]}"):
            list(BitstreamReader(stream, tables=new).chunks())
        with pytest.raises(InvalidParameter, match=f"{old.ids[coder]}.*no tables here"):
            list(BitstreamReader(stream).chunks())
    packed = stream_of(items, Coding(1024, 1, old), "packed")
    assert len(list(BitstreamReader(packed, tables=new).images())) == 3
    assert len(list(BitstreamReader(packed).images())) == 3


def test_an_unharmed_payload_that_comes_out_otherwise_is_told_apart(
    real_tokens: NDArray[np.uint16],
) -> None:
    """As it would on a machine that computed other weights from the same tables."""
    tables = made_tables(0, 1024, (8, 8))
    items = [ImageTokens(each) for each in real_tokens]
    for coder in set(PORTABLE) - {"packed"}:
        stream = stream_of(items, Coding(1024, 1, tables), coder)
        wrong = made_tables(1, 1024, (8, 8))
        wrong.__dict__["ids"] = tables.ids
        chunks, error = read_until_damage(stream, wrong)
        assert not chunks
        assert error.part == "tokens"
        assert "another model or table" in error.detail


def changed_start(stream: bytes, major: int, minor: int) -> bytes:
    """The stream as a writer of another version would begin it."""
    start = START.pack(MAGIC, major, minor, START.unpack(stream[: START.size])[3], 0)[:-2]
    return start + crc16(start).to_bytes(2, "little") + stream[START.size :]


def test_another_major_version_is_refused(stream: bytes) -> None:
    with pytest.raises(BitstreamUnsupported, match="version 2, and this vqtok reads version 1"):
        BitstreamReader(changed_start(stream, 2, 0))


def test_a_newer_minor_version_is_read_and_its_extensions_passed_over() -> None:
    header = StreamHeader(codebook_size=8, minor=9)
    extended = type("Newer", (StreamHeader,), {"_extensions": lambda _: [(77, b"new")]})
    data = extended(codebook_size=8, minor=9).to_bytes()
    rest = stream_of([ImageTokens(np.zeros((1, 1), int))], Coding(8), "packed")
    first = BitstreamReader(io.BytesIO(rest)).index()[0].offset
    # The index counts from the end of the header, so that it stays right.
    reader = BitstreamReader(data + rest[first:])
    assert reader.header == replace(header, coder=0)
    assert len(list(reader.images())) == 1


def test_a_coder_of_the_future_is_refused_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = stream_of([ImageTokens(np.zeros((1, 1), int))], Coding(8), "packed")
    monkeypatch.setattr("vqtok.bitstream.chunk.NUMBERS", {})
    with pytest.raises(BitstreamUnsupported, match="Chunk 0 is written by coder 0"):
        list(BitstreamReader(stream).chunks())


@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for begin in (b"", MAGIC, StreamHeader(codebook_size=300).to_bytes()):
        with pytest.raises(InvalidInput):
            list(BitstreamReader(begin + data).chunks())


@given(data=st.data())
def test_honest_checksums_over_nonsense_do_no_harm(data: st.DataObject) -> None:
    """A hostile writer knows how to compute a checksum."""
    tables = made_tables(0, 50, (3, 4))
    coding = Coding(50, 1, tables)
    tokens = made_tokens(np.random.default_rng(0), 50, 3, (3, 4))
    stream = stream_of([ImageTokens(each) for each in tokens], coding, "context")
    chunk = next(BitstreamReader(stream, tables=tables).scan())
    payload = data.draw(st.binary(max_size=64))
    number = st.integers(0, 2**32 - 1)
    small = st.integers(1, 40)
    header = replace(
        chunk.header,
        coder=data.draw(st.integers(0, 4)),
        grid=(data.draw(small | number), data.draw(small | number)),
        sizes=((data.draw(number), 7),) * data.draw(small),
        payload_bytes=data.draw(st.just(len(payload)) | number),
        payload_crc=data.draw(st.just(zlib.crc32(payload)) | number),
    )
    body = stream[: chunk.place.offset] + header.to_bytes() + payload
    with pytest.raises(InvalidInput):
        list(BitstreamReader(body, tables=tables).chunks())
