"""The bytes that all parts of a bitstream are made of: checked beginnings, varints, extensions.

Every length that a reader follows is checked before it is followed: by the 16-bit checksum of the
beginning that states it, which finds every damaged byte, or by a checksum of all around it.
"""

import binascii
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from vqtok.errors import BitstreamDamaged, TooLarge

MAGIC: Final = b"\x89VQT\r\n\x1a\n"
"""Not text, and spoilt by whatever changes line ends, as the first bytes of PNG are."""
MAJOR: Final = 1
MINOR: Final = 0
START: Final = struct.Struct("<8sBBHH")
"""Magic, major, minor, length of what follows in the header, checksum of the 12 bytes before."""
RECORD: Final = struct.Struct("<IH")
"""Kind (a byte) and length of what follows in the record's header (three), checksum of both."""
TAIL: Final = struct.Struct("<I4s")
"""Length of the end record and the last mark: the last bytes of a stream."""
CHECKSUM: Final = struct.Struct("<I")
CHUNK_KIND: Final = ord("C")
END_KIND: Final = ord("E")
TAIL_MARK: Final = b"VQTE"
MAX_RECORD_HEADER: Final = (1 << 24) - 1
MAX_CHUNK_TOKENS: Final = 1 << 24
"""A reader holds a chunk in memory; a picture of 16 megapixels has fewer tokens."""
MAX_CHUNK_IMAGES: Final = 1 << 16


def crc16(data: bytes) -> int:
    """CRC-16/XMODEM: finds every change of at most two neighbouring bytes."""
    return binascii.crc_hqx(data, 0)


def sealed(data: bytes) -> bytes:
    """The data and their CRC-32."""
    return data + CHECKSUM.pack(zlib.crc32(data))


def unsealed(data: bytes, what: str, part: str) -> bytes:
    """The data without their CRC-32, which is right.

    Raises:
        BitstreamDamaged: it is not; `what` is damaged.
    """
    body, stated = data[: -CHECKSUM.size], data[-CHECKSUM.size :]
    if len(stated) < CHECKSUM.size or CHECKSUM.unpack(stated)[0] != zlib.crc32(body):
        raise BitstreamDamaged(f"{what} is damaged: its checksum differs.", part=part)
    return body


def record(kind: int, body: bytes) -> bytes:
    """A record's header: its beginning, the body, and the checksum of both.

    Raises:
        TooLarge: a body of more than `MAX_RECORD_HEADER` bytes.
    """
    length = len(body) + CHECKSUM.size
    if length > MAX_RECORD_HEADER:
        raise TooLarge(
            f"A record of a bitstream would have {length} bytes beside its payload, more than "
            f"{MAX_RECORD_HEADER}: take more images a chunk, or several streams."
        )
    start = RECORD.pack(kind | length << 8, 0)[:-2]
    return sealed(start + struct.pack("<H", crc16(start)) + body)


def varint(number: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first, the top bit set on all bytes but the last."""
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def extensions(entries: Iterable[tuple[int, bytes]]) -> bytes:
    """Tag, length and data of each; a reader passes over tags that it does not know."""
    return b"".join(varint(tag) + varint(len(data)) + data for tag, data in entries)


class Cursor:
    """Reads numbers from bytes whose checksum is right: what does not read was written wrong."""

    def __init__(self, data: bytes, what: str, part: str) -> None:
        self._data = data
        self._place = 0
        self._what = what
        self._part = part

    @property
    def is_at_end(self) -> bool:
        """Whether everything has been read."""
        return self._place >= len(self._data)

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        data = self._data[self._place : self._place + count]
        if len(data) < count:
            raise self.wrong("it ends within a field")
        self._place += count
        return data

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def checksum(self) -> int:
        """The next four bytes, the lowest first."""
        return int(CHECKSUM.unpack(self.take(CHECKSUM.size))[0])

    def varint(self, most: int = 2**32 - 1) -> int:
        """The next varint, which is at most `most`."""
        number = shift = 0
        while True:
            byte = self.byte()
            number |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
            if shift > 63:
                raise self.wrong("a number in it has no end")
        if number > most:
            raise self.wrong(f"a number in it is {number}, at most {most} is possible there")
        return number

    def extensions(self) -> Iterator[tuple[int, bytes]]:
        """The extensions that are left."""
        while not self.is_at_end:
            tag = self.varint()
            yield tag, self.take(self.varint())

    def wrong(self, reason: str) -> BitstreamDamaged:
        """The error to raise for a field that cannot be."""
        return BitstreamDamaged(f"{self._what} cannot be read: {reason}.", part=self._part)
