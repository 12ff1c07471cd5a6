"""The header of a bitstream: what its tokens mean, and how they may be coded."""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from vqtok.bitstream.layout import (
    CHECKSUM,
    MAGIC,
    MAJOR,
    MINOR,
    START,
    Cursor,
    crc16,
    extensions,
    sealed,
    unsealed,
)
from vqtok.errors import (
    BitstreamDamaged,
    BitstreamTruncated,
    BitstreamUnsupported,
    InvalidParameter,
    MalformedBody,
)

TABLE_ID_BYTES: Final = 8
PART: Final = "header"
_FIXED: Final = struct.Struct("<BBHI")
_MODEL, _CODEBOOK, _TOKENIZER, _PREPROCESS, _TABLE, _RUNTIME = range(1, 7)
_TEXTS: Final = {_MODEL: "model", _PREPROCESS: "preprocess", _RUNTIME: "runtime"}
_IDS: Final = {_CODEBOOK: "codebook_id", _TOKENIZER: "tokenizer_id"}
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})+")
_LONGEST: Final = 2**16 - 1


@dataclass(frozen=True, kw_only=True)
class StreamHeader:
    """What is true of all tokens of a stream.

    `codebook_size` is K and `depth` the tokens a cell. `coder` is the number of the coder that was
    asked for; each chunk names its own. `table_ids` are the ids, 16 hex digits, of the tables that
    chunks of a coder were written with, by the coder's number. `runtime` says in words what the
    coder `prior` ran on, which has to read it too. `model`, the ids (hex) and `preprocess` are None
    where they are not known. `minor` is the minor version.
    """

    codebook_size: int
    depth: int = 1
    coder: int = 0
    table_ids: Mapping[int, str] = field(default_factory=dict[int, str])
    model: str | None = None
    codebook_id: str | None = None
    tokenizer_id: str | None = None
    preprocess: str | None = None
    runtime: str | None = None
    minor: int = MINOR

    def to_bytes(self) -> bytes:
        """The header's bytes.

        Raises:
            InvalidParameter: K, depth or a text that the header has no room for; an id that is no
            hex.
        """
        if not 1 <= self.codebook_size <= 2**32 or not 1 <= self.depth <= 255:
            raise InvalidParameter(
                "A bitstream takes 1 .. 2**32 codes and 1 .. 255 tokens a cell, not "
                f"{self.codebook_size} and {self.depth}."
            )
        fixed = _FIXED.pack(self.coder, self.depth, 0, self.codebook_size - 1)
        body = fixed + extensions(self._extensions())
        if len(body) + CHECKSUM.size > _LONGEST:
            raise InvalidParameter(f"The header of a bitstream has at most {_LONGEST} bytes.")
        start = START.pack(MAGIC, MAJOR, self.minor, len(body) + CHECKSUM.size, 0)[:-2]
        return sealed(start + struct.pack("<H", crc16(start)) + body)

    def _extensions(self) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        for tag, name in (_TEXTS | _IDS).items():
            value: str | None = getattr(self, name)
            if value is not None:
                found.append((tag, _id_bytes(name, value) if tag in _IDS else value.encode()))
        for coder, table in sorted(self.table_ids.items()):
            found.append((_TABLE, bytes([coder]) + bytes.fromhex(table)))
        return sorted(found)


def header_length(start: bytes) -> int:
    """Bytes of the header after its beginning, of which `start` are the bytes.

    Raises:
        MalformedBody: it is not the beginning of a bitstream.
        BitstreamDamaged: it is, and bytes of it have changed. BitstreamTruncated: it is too short.
        BitstreamUnsupported: a major version that is not known.
    """
    if len(start) < START.size:
        if not start or not MAGIC.startswith(start[: len(MAGIC)]):
            raise _no_bitstream()
        raise BitstreamTruncated("The bitstream ends within its header.", part=PART)
    magic, major, _, length, stated = START.unpack(start)
    if crc16(MAGIC + start[len(MAGIC) : -2]) != stated:
        if magic == MAGIC:
            raise BitstreamDamaged("The beginning of the header is damaged.", part=PART)
        raise _no_bitstream()
    if magic != MAGIC:
        raise BitstreamDamaged("The first 8 bytes of the header are damaged.", part=PART)
    if major != MAJOR:
        raise BitstreamUnsupported(
            f"The bitstream is of version {major}, and this vqtok reads version {MAJOR}: take a "
            "newer one."
        )
    return int(length)


def parse_header(start: bytes, rest: bytes) -> StreamHeader:
    """The header of which `start` has passed `header_length` and `rest` are the bytes after it.

    Raises:
        BitstreamDamaged: the checksum differs, or a field cannot be.
    """
    body = unsealed(start + rest, "The header", PART)[START.size :]
    cursor = Cursor(body, "The header", PART)
    coder, depth, _, largest = _FIXED.unpack(cursor.take(_FIXED.size))
    if not depth:
        raise cursor.wrong("it states a depth of 0")
    texts: dict[str, str] = {}
    tables: dict[int, str] = {}
    for tag, data in cursor.extensions():
        if tag in _TEXTS:
            texts[_TEXTS[tag]] = _text(data, cursor)
        elif tag in _IDS:
            texts[_IDS[tag]] = data.hex()
        elif tag == _TABLE and len(data) == 1 + TABLE_ID_BYTES:
            tables[data[0]] = data[1:].hex()
    return StreamHeader(
        codebook_size=largest + 1,
        depth=depth,
        coder=coder,
        table_ids=tables,
        minor=start[len(MAGIC) + 1],
        **texts,
    )


def _text(data: bytes, cursor: Cursor) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise cursor.wrong("a text in it is not UTF-8") from None


def _id_bytes(name: str, value: str) -> bytes:
    if not _HEX.fullmatch(value):
        raise InvalidParameter(
            f"{name} is {value[:40]!r}; a bitstream takes an even number of hex digits."
        )
    return bytes.fromhex(value)


def _no_bitstream() -> MalformedBody:
    return MalformedBody("This is no vqtok bitstream: it does not begin as one.")
