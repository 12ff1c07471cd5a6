"""Token bitstreams: a container, entropy coders, and the tables these work by.

The format is described byte by byte in docs/bitstream.md. A coder is one file here and one line in
`CODERS`.
"""

from vqtok.bitstream.chunk import Chunk
from vqtok.bitstream.chunk_header import ChunkHeader
from vqtok.bitstream.coders import (
    AUTO,
    CHOICES,
    CODERS,
    NUMBERS,
    PACKED,
    PORTABLE,
    PRIOR,
    Coder,
    Coding,
)
from vqtok.bitstream.end_record import ChunkPlace
from vqtok.bitstream.header import StreamHeader
from vqtok.bitstream.learned import CodingPrior
from vqtok.bitstream.rates import RATES, Rate, bits_per_image
from vqtok.bitstream.reader import BitstreamReader, ScannedChunk
from vqtok.bitstream.tables import CoderTables
from vqtok.bitstream.writer import CHUNK_IMAGES, BitstreamWriter, StreamEncoder, stream_bytes

__all__ = [
    "AUTO",
    "CHOICES",
    "CHUNK_IMAGES",
    "CODERS",
    "NUMBERS",
    "PACKED",
    "PORTABLE",
    "PRIOR",
    "RATES",
    "BitstreamReader",
    "BitstreamWriter",
    "Chunk",
    "ChunkHeader",
    "ChunkPlace",
    "Coder",
    "CoderTables",
    "Coding",
    "CodingPrior",
    "Rate",
    "ScannedChunk",
    "StreamEncoder",
    "StreamHeader",
    "bits_per_image",
    "stream_bytes",
]
