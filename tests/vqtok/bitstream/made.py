"""Tables and tokens of any codebook, made from one seed, and the tokens of real images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.vqtok.tiny_bundle import coder_arrays
from vqtok.bitstream import PRIOR, CoderTables, Coding, StreamHeader, stream_bytes
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
    bound = coder == PRIOR
    return b"".join(
        stream_bytes(items, header, coding, coder, chunk_images=chunk_images, machine_bound=bound)
    )


class MadePrior:
    """A prior in numpy: how likely a code is depends on its place and on all tokens that are
    known.
    """

    name = "made"
    any_order = True
    labels: tuple[str, ...] = ()

    def __init__(
        self, seed: int, codes: int, grid: tuple[int, int], depth: int = 1, num_groups: int = 4
    ) -> None:
        rng, num = np.random.default_rng(seed), grid[0] * grid[1] * depth
        self.grid: tuple[int, ...] = (*grid, depth) if depth > 1 else grid
        self.codebook_size = codes
        self.groups: NDArray[np.int64] = rng.permutation(np.arange(num) % min(num_groups, num))
        self.order = np.argsort(self.groups, kind="stable")
        self.digest, self.runtime = f"{seed:064x}", "a made runtime"
        self._of_places = rng.normal(size=(num, 4))
        self._of_tokens = rng.normal(size=(codes + 1, 4))
        self._of_codes = rng.normal(size=(4, codes))
        self._rarities = np.log1p(np.arange(codes))

    def logits(
        self, tokens: NDArray[np.int32], labels: NDArray[np.int32], positions: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        known = self._of_tokens[tokens].mean(axis=1)
        rows = self._of_places[positions] + known[:, None]
        # Coarse enough to be the same however many rows are multiplied together.
        return np.round(rows @ self._of_codes - self._rarities, 2).astype(np.float32)


SHIPPED = Path(__file__).parents[3] / "bundles/cifar10-gmvq"
