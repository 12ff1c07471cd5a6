"""A chunk: tokens to a header and a payload, and back."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.bitstream.chunk_header import ChunkHeader, Size
from vqtok.bitstream.coders import AUTO, CODERS, NUMBERS, PACKED, PRIOR, Coding
from vqtok.bitstream.header import StreamHeader
from vqtok.errors import (
    BitstreamDamaged,
    BitstreamUnsupported,
    InvalidParameter,
    InvalidTokens,
    RuntimeMismatch,
    TableMismatch,
)
from vqtok.tokens import ImageTokens, token_dtype


@dataclass(frozen=True, eq=False)
class Chunk:
    """A chunk that has been read: number `index` of its stream, its images from `first_image` on.

    `tokens` is (n, h, w) or (n, h, w, depth), in `token_dtype(codebook_size)`.
    """

    index: int
    first_image: int
    header: ChunkHeader
    tokens: NDArray[Any]

    @property
    def images(self) -> list[ImageTokens]:
        """Its images one by one."""
        return [
            ImageTokens(tokens, size)
            for tokens, size in zip(self.tokens, self.header.sizes, strict=True)
        ]


def chosen_coder(coding: Coding, coder: str, tokens: NDArray[Any]) -> str:
    """The coder that `coder`, or "auto", stands for with these tokens (n, h, w, depth).

    Raises:
        InvalidParameter: it cannot write them; the detail says why.
    """
    if coder == AUTO:
        return coding.choose(tokens)
    reason = coding.obstacle(coder, (tokens.shape[1], tokens.shape[2]))
    if reason is not None:
        raise InvalidParameter(f"coder={coder} cannot be used: {reason}. Ask for coder=auto.")
    return coder


def write_chunk(
    coding: Coding,
    coder: str,
    tokens: NDArray[Any],
    sizes: Sequence[Size | None],
    names: Sequence[str] = (),
) -> bytes:
    """Header and payload of a chunk of tokens (n, h, w, depth), which are in range.

    Raises:
        InvalidParameter: as `chosen_coder`.
    """
    chosen = chosen_coder(coding, coder, tokens)
    payload = coding.encode(chosen, tokens)
    header = ChunkHeader(
        coder=CODERS[chosen].number,
        grid=(tokens.shape[1], tokens.shape[2]),
        sizes=tuple(sizes),
        payload_bytes=len(payload),
        payload_crc=zlib.crc32(payload),
        tokens_crc=tokens_checksum(tokens, coding.codebook_size),
        names=tuple(names),
    )
    return header.to_bytes() + payload


def check_payload(header: ChunkHeader, payload: bytes, index: int) -> None:
    """Raise BitstreamDamaged unless the payload is the one that was written."""
    if zlib.crc32(payload) != header.payload_crc:
        raise BitstreamDamaged(
            f"The payload of chunk {index} is damaged: its checksum differs.", part="payload"
        )


def read_payload(
    coding: Coding, stream: StreamHeader, header: ChunkHeader, payload: bytes, index: int
) -> NDArray[Any]:
    """The tokens (n, h, w, depth) of chunk number `index`.

    Raises:
        BitstreamDamaged: the payload has changed, or comes out as other tokens than went in.
        BitstreamUnsupported: a coder that is not known.
        InvalidParameter: the tables, or the prior, that it needs are not at hand.
        TableMismatch: they are others than it was written with. RuntimeMismatch: another runtime
        than that which the prior ran on. ModelFailure: the prior failed.
        InvalidTokens: a token outside the codebook.
    """
    coder = _known_coder(coding, stream, header, index)
    check_payload(header, payload, index)
    shape = (header.num_images, *header.grid, stream.depth)
    try:
        tokens = coding.decode(coder, payload, shape)
    except BitstreamDamaged as error:
        if error.part == "tokens":
            raise _other_tokens(index) from error
        detail = f"The payload of chunk {index} cannot be read: {error.detail}."
        raise BitstreamDamaged(detail, part=error.part) from error
    if int(tokens.max()) >= stream.codebook_size:
        raise InvalidTokens(
            f"Chunk {index} holds the token {int(tokens.max())}, outside 0 .. "
            f"{stream.codebook_size - 1}, the codes of its codebook."
        )
    if tokens_checksum(tokens, stream.codebook_size) != header.tokens_crc:
        raise _other_tokens(index)
    return tokens.astype(token_dtype(stream.codebook_size))


def _other_tokens(index: int) -> BitstreamDamaged:
    return BitstreamDamaged(
        f"The payload of chunk {index} is unharmed and gives other tokens than were written: it "
        "was decoded with another model or table than it was made with.",
        part="tokens",
    )


def tokens_checksum(tokens: NDArray[Any], codebook_size: int) -> int:
    """CRC-32 of tokens in C order as little-endian uint16, or uint32 above 65,536 codes."""
    dtype = token_dtype(codebook_size).newbyteorder("<")
    return zlib.crc32(np.ascontiguousarray(tokens, dtype).tobytes())


def _known_coder(coding: Coding, stream: StreamHeader, header: ChunkHeader, index: int) -> str:
    """The name of a chunk's coder, after everything that it needs has been found."""
    coder = NUMBERS.get(header.coder)
    if coder is None:
        raise BitstreamUnsupported(
            f"Chunk {index} is written by coder {header.coder}, which this vqtok does not have; "
            f"it has {', '.join(CODERS)}."
        )
    if coder == PACKED:
        return coder
    _check_tables(coding, coder, stream.table_ids.get(header.coder), index)
    if coder == PRIOR:
        _check_runtime(coding, stream, index)
    reason = coding.obstacle(coder, header.grid)
    if reason is not None:
        raise BitstreamDamaged(
            f"Chunk {index} is coded by {coder}, which cannot be: {reason}.", part="chunk header"
        )
    return coder


def _check_tables(coding: Coding, coder: str, stated: str | None, index: int) -> None:
    """Hold the tables, or the prior, that a chunk was coded by against those that are here."""
    what, has = f"the {coder} tables", coding.tables is not None
    if coder == PRIOR:
        what, has = "the learned prior", coding.prior is not None
    coded = f"Chunk {index} is coded by {what} {stated}"
    if not has:
        none = "it is not here" if coder == PRIOR else "there are no tables here"
        raise InvalidParameter(
            f"{coded}, and {none}. Open it with the bundle that it was made with."
        )
    own = coding.table_ids.get(coder)
    if own != stated:
        here = f"the one here is {own}" if coder == PRIOR else f"those here are {own}"
        raise TableMismatch(f"{coded}, and {here}. Read it with the bundle that it was made with.")


def _check_runtime(coding: Coding, stream: StreamHeader, index: int) -> None:
    """Refuse what another runtime would turn into other tokens."""
    own = None if coding.prior is None else coding.prior.runtime
    if own != stream.runtime:
        raise RuntimeMismatch(
            f"Chunk {index} is coded by a learned prior that ran on {stream.runtime}, and here it "
            f"runs on {own}. Its numbers may differ, so a stream is read where it was written: "
            "decompress it there, and compress with another coder what is to travel."
        )
