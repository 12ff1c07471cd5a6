"""Tables and tokens of any codebook, made from one seed, and the tokens of real images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.vqtok.tiny_bundle import coder_arrays
from vqtok.bitstream import CoderTables, Coding, StreamHeader, stream_bytes
from vqtok.tokens import ImageTokens, token_dtype

IDS = {"model": "made@1", "codebook_id": "ab" * 32, "tokenizer_id": "cd" * 32, "preprocess": "pad"}


def made_tokens(
    rng: np.random.Generator, codes: int, count: int, grid: tuple[int, int], depth: int = 1
) -> NDArray[Any]:
    """(count, h, w[, depth]): a few codes are frequent, and neighbours are often equal."""
    shape = (count, *grid, depth)
    drawn = np.minimum(rng.geometric(min(0.5, 8 / codes), shape) - 1, codes - 1)
    drawn[:, :, 1:] = np.where(rng.random(shape) < 0.4, drawn, np.roll(drawn, 1, 2))[:, :, 1:]
    tokens = drawn.astype(token_dtype(codes))
    return tokens if depth > 1 else tokens[..., 0]


def made_tables(
    seed: int, codes: int, grid: tuple[int, int], depth: int = 1, clusters: int = 4
) -> CoderTables:
    """Counts of made tokens."""
    rng = np.random.default_rng(seed)
    tokens = made_tokens(rng, codes, 40, grid, depth).reshape(40, *grid, depth).astype(np.int64)
    arrays = coder_arrays(tokens, codes, min(clusters, codes))
    places = np.zeros((*grid, depth, codes), np.uint32)
    rows, columns, levels = np.indices(tokens.shape[1:])
    for image in tokens:
        places[rows, columns, levels, image] += 1
    usage = places.sum(axis=(0, 1), dtype=np.int64)
    return CoderTables(usage, places, *arrays.values())


def made_header(coding: Coding) -> StreamHeader:
    """A header with all labels."""
    return replace(StreamHeader(codebook_size=coding.codebook_size, depth=coding.depth), **IDS)


def stream_of(
    items: list[ImageTokens], coding: Coding, coder: str = "auto", chunk_images: int = 256
) -> bytes:
    """A whole stream of the items."""
    header = made_header(coding)
    return b"".join(stream_bytes(items, header, coding, coder, chunk_images=chunk_images))


SHIPPED = Path(__file__).parents[3] / "bundles/cifar10-gmvq"
