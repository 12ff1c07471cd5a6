"""Writing a bitstream, in the memory of one chunk."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import BinaryIO, Final, Self

import numpy as np

from vqtok.bitstream.chunk import write_chunk
from vqtok.bitstream.coders import (
    AUTO,
    AUTO_NUMBER,
    CHOICES,
    CODERS,
    PACKED,
    PORTABLE,
    PRIOR,
    Coding,
)
from vqtok.bitstream.end_record import end_bytes
from vqtok.bitstream.header import StreamHeader
from vqtok.bitstream.layout import MAX_CHUNK_TOKENS
from vqtok.errors import InvalidParameter, InvalidTokens, TooLarge
from vqtok.tokens import ImageTokens

CHUNK_IMAGES: Final = 256
CHUNK_TOKENS: Final = 1 << 20
"""Large enough that headers cost nothing and coders run fast, small enough for random access."""


class StreamEncoder:
    """Images in, bytes out: the header first, a chunk as soon as it is full, the end record.

    `header` says K, depth and ids; its coder and tables are filled in from `coder`, one of
    `CHOICES` or "prior", and `coding`. A chunk holds neighbours of one grid, at most `chunk_images`
    of them. `machine_bound` is to be said with "prior", whose streams only the same prior on the
    same runtime and processor can read.

    Raises:
        InvalidParameter: an unknown coder; a coder of tables, or of a prior, that there is none of;
        `machine_bound` without "prior", or "prior" without it.
    """

    def __init__(
        self,
        header: StreamHeader,
        coding: Coding,
        coder: str = AUTO,
        *,
        chunk_images: int = CHUNK_IMAGES,
        machine_bound: bool = False,
    ) -> None:
        _check_coder(coder, machine_bound=machine_bound)
        if not 1 <= chunk_images <= 2**16:
            raise InvalidParameter(f"A chunk has 1 .. 65536 images, not {chunk_images}.")
        if (coding.codebook_size, coding.depth) != (header.codebook_size, header.depth):
            raise InvalidParameter("The header and the coders are of different codebooks.")
        self.header = _completed(header, coding, coder)
        self._coding = coding
        self._coder = coder
        self._chunk_images = chunk_images
        self._waiting: list[tuple[ImageTokens, str | None]] = []
        self._chunks: list[tuple[int, int]] = []

    def start(self) -> bytes:
        """The header."""
        return self.header.to_bytes()

    def go_on_after(self, chunks: Iterable[tuple[int, int]]) -> None:
        """Take (images, bytes) of chunks that an earlier writer has written as the first ones."""
        self._chunks = list(chunks)

    def add(self, item: ImageTokens, name: str | None = None) -> bytes:
        """The bytes of the chunk that an image completes, or none. Either all images have names or
        none has.

        Raises:
            InvalidTokens: tokens that do not fit K and depth.
            TooLarge: an image of more tokens than a chunk may have.
        """
        item = item.checked(codebook_size=self.header.codebook_size, depth=self.header.depth)
        if item.tokens.size > MAX_CHUNK_TOKENS:
            raise TooLarge(
                f"An image of {item.tokens.size} tokens does not fit: a bitstream takes "
                f"{MAX_CHUNK_TOKENS}."
            )
        done = b""
        if self._waiting and not self._has_room_for(item):
            done = self.flush()
        self._waiting.append((item, name))
        return done

    def flush(self) -> bytes:
        """The chunk of the images that wait, or no bytes."""
        if not self._waiting:
            return b""
        waiting, self._waiting = self._waiting, []
        tokens = np.stack([item.tokens for item, _ in waiting])
        names = [name for _, name in waiting if name is not None]
        if names and len(names) != len(waiting):
            raise InvalidTokens("Some images of a chunk have names and some have none.")
        data = write_chunk(
            self._coding,
            self._coder,
            tokens.reshape(*tokens.shape[:3], self.header.depth),
            [item.size for item, _ in waiting],
            names,
        )
        self._chunks.append((len(waiting), len(data)))
        return data

    def finish(self) -> bytes:
        """What is left, and the end record."""
        return self.flush() + end_bytes(self._chunks)

    def _has_room_for(self, item: ImageTokens) -> bool:
        count = len(self._waiting)
        return (
            self._waiting[0][0].grid == item.grid
            and count < self._chunk_images
            and (count + 1) * item.tokens.size <= CHUNK_TOKENS
        )


class BitstreamWriter:
    """A `StreamEncoder` that writes into a file. As a context manager it writes the end record only
    when all went well, so that an interrupted stream can be told from a whole one.
    """

    def __init__(
        self,
        target: BinaryIO,
        header: StreamHeader,
        coding: Coding,
        coder: str = AUTO,
        *,
        chunk_images: int = CHUNK_IMAGES,
        machine_bound: bool = False,
    ) -> None:
        self._target = target
        self._encoder = StreamEncoder(
            header, coding, coder, chunk_images=chunk_images, machine_bound=machine_bound
        )
        self.header = self._encoder.header
        target.write(self._encoder.start())

    def write(self, item: ImageTokens, name: str | None = None) -> None:
        """Add an image; see `StreamEncoder.add`."""
        self._target.write(self._encoder.add(item, name))

    def close(self) -> None:
        """Write what is left and the end record. The file stays open."""
        self._target.write(self._encoder.finish())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()


def stream_bytes(
    items: Iterable[ImageTokens],
    header: StreamHeader,
    coding: Coding,
    coder: str = AUTO,
    *,
    chunk_images: int = CHUNK_IMAGES,
    machine_bound: bool = False,
) -> Iterator[bytes]:
    """The bytes of a stream of `items`, piece by piece as these come."""
    encoder = StreamEncoder(
        header, coding, coder, chunk_images=chunk_images, machine_bound=machine_bound
    )
    yield encoder.start()
    for item in items:
        piece = encoder.add(item)
        if piece:
            yield piece
    yield encoder.finish()


def _check_coder(coder: str, *, machine_bound: bool) -> None:
    if coder not in (*CHOICES, PRIOR):
        choices = ", ".join((*CHOICES, PRIOR))
        raise InvalidParameter(f"coder is one of {choices}, not {coder[:40]!r}.")
    if coder == PRIOR and not machine_bound:
        raise InvalidParameter(
            "Only the runtime and processor that write a stream of coder=prior can read it. Say "
            "machine_bound if that will do, or take coder=auto."
        )
    if machine_bound and coder != PRIOR:
        raise InvalidParameter(
            f"machine_bound goes with coder=prior: every machine reads coder={coder}."
        )


def _completed(header: StreamHeader, coding: Coding, coder: str) -> StreamHeader:
    """The header with the coder, the ids of the tables that chunks may use, and what else they are
    bound to.
    """
    ids = coding.table_ids
    usable = PORTABLE if coder == AUTO else (coder,)
    wanted = [each for each in usable if each != PACKED]
    if coder != AUTO and wanted and coder not in ids:
        reason = coding.obstacle(coder, (0, 0))
        raise InvalidParameter(f"coder={coder} cannot be used: {reason}. Ask for coder=auto.")
    number = AUTO_NUMBER if coder == AUTO else CODERS[coder].number
    tables = {CODERS[each].number: ids[each] for each in wanted if each in ids}
    prior = coding.prior if coder == PRIOR else None
    runtime = None if prior is None else prior.runtime
    return replace(header, coder=number, table_ids=tables, runtime=runtime)
