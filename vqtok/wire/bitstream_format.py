"""`application/vnd.vqtok.tokens`: tokens in as few bytes as their tables allow.

A whole stream of `vqtok.bitstream`, whose bytes docs/bitstream.md describes. It carries ids, mixed
grids and sizes; no margins and no failed items.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from vqtok.bitstream import (
    BitstreamReader,
    Coding,
    StreamHeader,
    stream_bytes,
)
from vqtok.errors import InvalidTokens, NotAcceptable, TooLarge
from vqtok.tokens import UINT16_CODES, ImageTokens, TokenBatch
from vqtok.wire.format import DecodeOptions, EncodeOptions, WireFormat, as_dtype

MEDIA_TYPE = "application/vnd.vqtok.tokens"


def encode_tokens(batch: TokenBatch, options: EncodeOptions | None = None) -> bytes:
    """A batch as one stream. Without `options.coding` the codebook is taken to be as large as the
    dtype of the tokens allows, and there are no tables. `options.dtype` is only held against the
    tokens, and the layout says nothing here.

    Raises:
        NotAcceptable: a failed item.
        InvalidTokens: tokens outside the codebook, or of different depths.
        InvalidParameter: a coder that cannot write them; a dtype that cannot hold them.
    """
    options = options or EncodeOptions()
    failed = [item for item in batch.items if not isinstance(item, ImageTokens)]
    if failed:
        raise NotAcceptable("A bitstream carries no failed items: ask for application/json.")
    for item in batch.images:
        as_dtype(item.tokens, options.dtype)
    coding = options.coding or _widest(batch.images)
    header = StreamHeader(
        codebook_size=coding.codebook_size,
        depth=coding.depth,
        model=batch.model,
        codebook_id=batch.codebook_id,
        tokenizer_id=batch.tokenizer_id,
        preprocess=batch.preprocess,
    )
    return b"".join(stream_bytes(batch.images, header, coding, options.coder))


def decode_tokens(body: bytes, options: DecodeOptions | None = None) -> TokenBatch:
    """The batch that a stream carries. Every header is looked at before anything is decoded.

    Raises:
        MalformedBody: no stream, or a damaged one (BitstreamDamaged names the part).
        BitstreamUnsupported, TableMismatch: it asks for what is not here.
        InvalidParameter: it was coded with tables, and `options.tables` is None.
        InvalidTokens: no image in it, or tokens outside the codebook that it states.
        TooLarge: more items than `options` take.
    """
    options = options or DecodeOptions()
    reader = BitstreamReader(body, tables=options.tables)
    for _ in counted_headers(reader, options.max_items):
        pass
    items = tuple(ImageTokens(item.tokens, item.size or options.size) for item in reader.images())
    if not items:
        raise InvalidTokens("The bitstream holds no images.")
    return labels_of(reader.header, items)


def counted_headers(
    reader: BitstreamReader, max_items: int | None
) -> Iterator[tuple[int, tuple[int, int]]]:
    """The number of images and the grid (h, w) of every chunk, none of them decoded.

    Raises:
        BitstreamDamaged: as `decode_tokens`. TooLarge: more than `max_items` images.
    """
    count = 0
    for header in reader.chunk_headers():
        count += header.num_images
        if max_items is not None and count > max_items:
            raise TooLarge(
                f"The request has {count} images or more; at most {max_items} are taken "
                "(max_items). Send several requests.",
                limit=max_items,
                setting="max_items",
            )
        yield header.num_images, header.grid


def labels_of(header: StreamHeader, items: Sequence[ImageTokens] = ()) -> TokenBatch:
    """The items as a batch with the ids of a stream."""
    labels = (header.model, header.codebook_id, header.tokenizer_id, header.preprocess)
    return TokenBatch(*labels, tuple(items))


def _widest(images: Sequence[ImageTokens]) -> Coding:
    """The coders of a codebook of which nothing is known but tokens."""
    depths = {item.grid[2] if len(item.grid) > 2 else 1 for item in images}
    if len(depths) > 1:
        raise InvalidTokens(
            f"A bitstream carries tokens of one depth, not of {len(depths)} different ones."
        )
    narrow = all(
        item.tokens.dtype.itemsize <= 2 or int(np.max(item.tokens, initial=0)) < UINT16_CODES
        for item in images
    )
    return Coding(UINT16_CODES if narrow else 2**32, depths.pop() if depths else 1)


BITSTREAM = WireFormat(
    MEDIA_TYPE,
    encode_tokens,
    decode_tokens,
    carries_errors=False,
    carries_mixed_sizes=True,
    carries_ids=True,
)
