"""Reading a bitstream, in the memory of one chunk."""

from collections.abc import Iterator
from dataclasses import dataclass

from vqtok.bitstream.chunk import Chunk, check_payload, read_payload
from vqtok.bitstream.chunk_header import PART as CHUNK_HEADER
from vqtok.bitstream.chunk_header import ChunkHeader, parse_chunk_header
from vqtok.bitstream.coders import Coding
from vqtok.bitstream.end_record import PART as END_RECORD
from vqtok.bitstream.end_record import ChunkPlace, check_tail, parse_end
from vqtok.bitstream.header import StreamHeader, header_length, parse_header
from vqtok.bitstream.layout import (
    CHUNK_KIND,
    END_KIND,
    MAX_RECORD_HEADER,
    RECORD,
    START,
    TAIL,
    crc16,
)
from vqtok.bitstream.learned import CodingPrior, depth_of
from vqtok.bitstream.source import Readable, Source
from vqtok.bitstream.tables import CoderTables
from vqtok.errors import (
    BitstreamDamaged,
    BitstreamTruncated,
    BitstreamUnsupported,
    CodebookMismatch,
    InvalidParameter,
)
from vqtok.identity import SHORT_ID_LENGTH, ContentId
from vqtok.tokens import ImageTokens


@dataclass(frozen=True)
class ScannedChunk:
    """A chunk that was passed over: where it lies, and what is wrong with its payload, if anything
    is.
    """

    index: int
    place: ChunkPlace
    header: ChunkHeader
    damage: BitstreamDamaged | None = None


class BitstreamReader:
    """The header of a stream at once, its chunks as they are asked for.

    `source` is bytes, a file, or bytes in pieces. `tables` are those of the bundle, and `prior` is
    its learned one, for streams of the coder "prior"; a stream of the coder "packed" needs neither.
    With `codebook_id` a stream of another codebook is refused.

    Raises:
        MalformedBody: this is no bitstream. BitstreamDamaged, BitstreamTruncated: it was one.
        BitstreamUnsupported: another major version. CodebookMismatch: another codebook.
    """

    def __init__(
        self,
        source: Readable,
        *,
        tables: CoderTables | None = None,
        prior: CodingPrior | None = None,
        codebook_id: ContentId | None = None,
    ) -> None:
        self._source = Source(source)
        start = self._source.read(START.size)
        length = header_length(start)
        rest = self._source.read(length)
        if len(rest) < length:
            raise BitstreamTruncated("The bitstream ends within its header.", part="header")
        self.header: StreamHeader = parse_header(start, rest)
        self._first_chunk = self._source.place
        _check_codebook(self.header, codebook_id)
        self._tables = tables
        self._prior = prior
        self._coding: Coding | None = None
        self._index: tuple[ChunkPlace, ...] | None = None

    def chunks(self) -> Iterator[Chunk]:
        """The chunks in their order, from the first; once only of a source that cannot go back.

        Raises:
            BitstreamDamaged: after the whole chunks before the damage; `part` says where it is.
            BitstreamTruncated: after the whole chunks before the break.
            InvalidParameter, TableMismatch: a chunk needs tables, or a prior, that are not at hand.
            RuntimeMismatch: a chunk is read by the runtime alone that wrote it.
            BitstreamUnsupported: a chunk of a coder that is not known.
        """
        for index, place, header in self._headers():
            payload = self._payload(header, index)
            tokens = read_payload(self._coders(), self.header, header, payload, index)
            shaped = tokens if self.header.depth > 1 else tokens[..., 0]
            yield Chunk(index, place.first_image, header, shaped)

    def images(self) -> Iterator[ImageTokens]:
        """The images of `chunks`."""
        for chunk in self.chunks():
            yield from chunk.images

    def scan(self) -> Iterator[ScannedChunk]:
        """The chunks in their order with all checks but that of the tokens, none of them decoded. A
        damaged payload is told of and passed over; other damage raises as in `chunks`.
        """
        for index, place, header in self._headers():
            payload, damage = self._payload(header, index), None
            try:
                check_payload(header, payload, index)
            except BitstreamDamaged as error:
                damage = error
            yield ScannedChunk(index, place, header, damage)

    def chunk_headers(self) -> Iterator[ChunkHeader]:
        """The headers of the chunks, before anything is decoded; raises as `chunks`."""
        for index, _, header in self._headers():
            self._payload(header, index)
            yield header

    def index(self) -> tuple[ChunkPlace, ...]:
        """Where every chunk lies, from the end record. The source must be able to go back.

        Raises:
            BitstreamTruncated: there is no end record. BitstreamDamaged: it does not read.
        """
        if self._index is None:
            here = self._source.place
            self._index = self._read_index()
            self._source.seek(here)
        return self._index

    def chunk(self, index: int) -> Chunk:
        """Chunk number `index`, without reading those before it.

        Raises:
            InvalidParameter: there is no such chunk. Otherwise as `index` and `chunks`.
        """
        places = self.index()
        if not 0 <= index < len(places):
            raise InvalidParameter(f"There is no chunk {index}: there are {len(places)}.")
        place = places[index]
        self._source.seek(place.offset)
        kind, start, length = self._record(index)
        header = self._chunk_header(kind, start, length, index, place)
        payload = self._payload(header, index)
        if (self._source.place - place.offset, header.num_images) != (
            place.num_bytes,
            place.num_images,
        ):
            raise BitstreamDamaged(f"Chunk {index} is not what the index says.", part=END_RECORD)
        tokens = read_payload(self._coders(), self.header, header, payload, index)
        shaped = tokens if self.header.depth > 1 else tokens[..., 0]
        return Chunk(index, place.first_image, header, shaped)

    def _coders(self) -> Coding:
        if self._coding is None:
            tables, prior = self._tables, self._prior
            stated = (self.header.codebook_size, self.header.depth)
            if tables is not None and (tables.codebook_size, tables.depth) != stated:
                tables = None
            if prior is not None and (prior.codebook_size, depth_of(prior)) != stated:
                prior = None
            self._coding = Coding(*stated, tables, prior)
        return self._coding

    def _headers(self) -> Iterator[tuple[int, ChunkPlace, ChunkHeader]]:
        """Every chunk's header; whoever takes one reads its payload before the next."""
        seen: list[ChunkPlace] = []
        first_image = 0
        if self._source.place != self._first_chunk:
            self._source.seek(self._first_chunk)
        while True:
            offset, number = self._source.place, len(seen)
            kind, start, length = self._record(number)
            if kind == END_KIND:
                self._end(start, length, seen)
                return
            place = ChunkPlace(offset, 0, first_image, 0)
            header = self._chunk_header(kind, start, length, number, place)
            num_bytes = self._source.place - offset + header.payload_bytes
            place = ChunkPlace(offset, num_bytes, first_image, header.num_images)
            seen.append(place)
            first_image += header.num_images
            yield number, place, header

    def _record(self, index: int) -> tuple[int, bytes, int]:
        """Kind, beginning and further length of the record after chunk `index` - 1."""
        offset = self._source.place
        start = self._source.read(RECORD.size)
        if len(start) < RECORD.size:
            raise _truncated(index, offset + len(start))
        word, stated = RECORD.unpack(start)
        if crc16(start[:-2]) != stated:
            raise BitstreamDamaged(
                f"The header of chunk {index}, or the end record in its place, (byte {offset}) is "
                "damaged in its first 6 bytes.",
                part=CHUNK_HEADER,
            )
        return word & 0xFF, start, word >> 8

    def _chunk_header(
        self, kind: int, start: bytes, length: int, index: int, place: ChunkPlace
    ) -> ChunkHeader:
        if kind != CHUNK_KIND:
            raise BitstreamUnsupported(
                f"The record at byte {place.offset} is of the kind {kind}, which this vqtok does "
                "not know."
            )
        rest = self._source.read(length)
        if len(rest) < length:
            raise _truncated(index, self._source.place)
        return parse_chunk_header(start + rest, index, self.header.depth, place.offset)

    def _payload(self, header: ChunkHeader, index: int) -> bytes:
        payload = self._source.read(header.payload_bytes)
        if len(payload) < header.payload_bytes:
            raise _truncated(index, self._source.place)
        return payload

    def _end(self, start: bytes, length: int, seen: list[ChunkPlace]) -> None:
        rest = self._source.read(length + TAIL.size)
        if len(rest) < length + TAIL.size:
            raise BitstreamTruncated("The bitstream ends within its end record.", part=END_RECORD)
        places = parse_end(start + rest[:length], self._first_chunk)
        check_tail(rest[length:], len(start) + length)
        if list(places) != seen:
            raise BitstreamDamaged(
                f"The end record speaks of other chunks than the {len(seen)} that were there.",
                part=END_RECORD,
            )
        if self._source.read(1):
            raise BitstreamDamaged("Bytes follow the end of the bitstream.", part=END_RECORD)

    def _read_index(self) -> tuple[ChunkPlace, ...]:
        source, end = self._source, self._source.length()
        source.seek(max(0, end - TAIL.size))
        tail = source.read(TAIL.size)
        length = check_tail(tail) if len(tail) == TAIL.size else 0
        begin = end - TAIL.size - length
        if not RECORD.size <= length <= MAX_RECORD_HEADER or begin < self._first_chunk:
            raise BitstreamDamaged("The last 8 bytes are damaged.", part=END_RECORD)
        source.seek(begin)
        places = parse_end(source.read(length), self._first_chunk)
        if sum(place.num_bytes for place in places) != begin - self._first_chunk:
            raise BitstreamDamaged("The index does not account for all bytes.", part=END_RECORD)
        return places


def _check_codebook(header: StreamHeader, own: ContentId | None) -> None:
    given = header.codebook_id
    if own is not None and given is not None and not own.matches(given):
        raise CodebookMismatch(
            f"The bitstream is of codebook {given[:SHORT_ID_LENGTH]}, and the codebook here is "
            f"{own.short}: use the model that made it."
        )


def _truncated(index: int, place: int) -> BitstreamTruncated:
    return BitstreamTruncated(
        f"The bitstream ends at byte {place}, within chunk {index}: the {index} chunks before it "
        "are whole.",
        part=CHUNK_HEADER,
    )
