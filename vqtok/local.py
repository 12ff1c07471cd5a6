"""The tokenizer in this process: a bundle, an engine, and a thread for each of its runners."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from vqtok.bitstream import CoderTables, Coding
from vqtok.bundle import Bundle, golden_check
from vqtok.errors import TooLarge
from vqtok.images import ImageLimits, Prepared, preprocess
from vqtok.parallel import Item, Result, ordered_map
from vqtok.pictures import ImageSource, crop, load_picture, named, require_mode
from vqtok.priors import SampleOptions, checked_wish, draw_all
from vqtok.runtime.engine import Encoded, Engine
from vqtok.runtime.learned_prior import OnnxPrior
from vqtok.runtime.onnx import open_engine, prior_of
from vqtok.runtime.tiles import TILE_PIXELS, decode_tiled, encode_tiled, plan_decode, plan_encode
from vqtok.tokenizer import (
    Samples,
    Tokenizer,
    TokenizerInfo,
    Tokens,
    as_batch,
    checked_image_size,
    require_codebook,
)
from vqtok.tokens import ImageTokens, TokenBatch, checked_tokens


def open_tokenizer(path: Path | str, device: str = "auto") -> "LocalTokenizer":
    """Open a bundle and prove it on its golden image; see `Tokenizer.open`."""
    bundle = Bundle.open(path)
    engine = open_engine(bundle, device)
    golden_check(engine, bundle.reference)
    return LocalTokenizer(bundle, engine)


class LocalTokenizer(Tokenizer):
    """A `Tokenizer` on an engine of this process.

    Pictures of one shape that follow each other share batches; pictures above `tile_pixels` are
    cut in tiles. Tokens do not depend on either.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        *,
        limits: ImageLimits | None = None,
        tile_pixels: int = TILE_PIXELS,
    ) -> None:
        self._bundle = bundle
        self._manifest = bundle.manifest
        self._engine = engine
        self._limits = limits or ImageLimits()
        self._tile_pixels = tile_pixels
        self._prior = prior_of(bundle, bundle.reference, engine.device)
        tables = CoderTables.of(bundle.reference)
        learned = self._prior if isinstance(self._prior, OnnxPrior) else None
        self._coding = Coding(self._manifest.codebook_size, self._manifest.depth, tables, learned)
        self._pool = ThreadPoolExecutor(engine.num_runners, thread_name_prefix="vqtok")

    @property
    def info(self) -> TokenizerInfo:
        return TokenizerInfo.of(self._manifest)

    def encode(
        self,
        images: Sequence[ImageSource],
        preprocess: str = "pad",
        *,
        image_size: int | tuple[int, int] | None = None,
    ) -> TokenBatch:
        require_mode(preprocess)
        target = checked_image_size(image_size)
        prepared = (
            self._prepare(index, image, preprocess, target) for index, image in enumerate(images)
        )
        batches = self._batches(prepared, lambda item: item.pixels.shape[:2], self._area)
        items = [item for batch in self._run(self._encode_batch, batches) for item in batch]
        manifest = self._manifest
        return TokenBatch(
            manifest.full_name,
            manifest.codebook_id,
            manifest.tokenizer_id,
            preprocess,
            tuple(items),
        )

    def decode(self, tokens: Tokens) -> list[NDArray[np.uint8]]:
        batch = as_batch(tokens)
        require_codebook(self._manifest.codebook_id, batch.codebook_id)
        images = batch.checked(
            codebook_size=self._manifest.codebook_size, depth=self._manifest.depth
        ).images
        batches = self._batches(images, lambda item: item.grid, self._grid_area)
        return [picture for part in self._run(self._decode_batch, batches) for picture in part]

    def sample(self, n: int = 1, **options: Unpack[SampleOptions]) -> Samples:
        wish = checked_wish(n, **options)
        drawn = draw_all(self._prior, wish)
        factor = self._manifest.image.factor
        size = (factor * drawn.tokens.shape[1], factor * drawn.tokens.shape[2])
        items = tuple(ImageTokens(self._narrowed(grid), size) for grid in drawn.tokens)
        manifest = self._manifest
        tokens = TokenBatch(
            manifest.full_name, manifest.codebook_id, manifest.tokenizer_id, None, items
        )
        return Samples(self.decode(tokens), tokens, drawn.bits, drawn.drawn_bits, wish.seed)

    @property
    def coding(self) -> Coding:
        return self._coding

    def codebook(self) -> NDArray[np.float32]:
        return self._bundle.codebook.copy()

    def close(self) -> None:
        self._pool.shutdown()
        self._engine.close()

    def _prepare(
        self, index: int, image: ImageSource, mode: str, image_size: tuple[int, int] | None
    ) -> Prepared:
        factor, native = self._manifest.image.factor, self._manifest.image.native_size
        with named(index, image):
            picture = load_picture(image, self._limits)
            return preprocess(picture, mode, factor=factor, image_size=image_size or native)

    def _encode_batch(self, batch: Sequence[Prepared]) -> list[ImageTokens]:
        if self._area(batch[0]) > self._tile_pixels:
            parts = [self._encode_large(item.pixels) for item in batch]
        else:
            encoded = self._engine.encode(np.stack([item.pixels for item in batch]))
            parts = [_one(encoded, index) for index in range(len(batch))]
        return [
            ImageTokens(self._narrowed(part.tokens[0]), item.size, part.margins[0])
            for item, part in zip(batch, parts, strict=True)
        ]

    def _encode_large(self, pixels: NDArray[np.uint8]) -> Encoded:
        self._require_tileable()
        manifest = self._manifest
        height, width = pixels.shape[:2]
        tiles = plan_encode(
            (height, width), manifest.image.factor, manifest.encoder_halo, self._tile_pixels
        )
        return encode_tiled(self._engine.encode, pixels, tiles)

    def _decode_batch(self, batch: Sequence[ImageTokens]) -> list[NDArray[np.uint8]]:
        manifest = self._manifest
        tokens = np.stack([item.tokens for item in batch]).astype(np.int32)
        if self._grid_area(batch[0]) <= self._tile_pixels:
            pictures = self._engine.decode(tokens)
        else:
            self._require_tileable()
            tiles = plan_decode(
                batch[0].grid, manifest.image.factor, manifest.decoder_halo, self._tile_pixels
            )
            pictures = [decode_tiled(self._engine.decode, grid, tiles) for grid in tokens]
        return [crop(one, item.size) for one, item in zip(pictures, batch, strict=True)]

    def _batches(
        self,
        items: Iterable[Item],
        shape: Callable[[Item], tuple[int, ...]],
        area: Callable[[Item], int],
    ) -> Iterator[list[Item]]:
        """Neighbours of one shape together, no batch above a tile's pixels unless of one item."""
        batch: list[Item] = []
        for item in items:
            room = min(self._engine.max_batch_images, self._tile_pixels // area(item))
            if batch and (len(batch) >= room or shape(item) != shape(batch[0])):
                yield batch
                batch = []
            batch.append(item)
        if batch:
            yield batch

    def _run(self, run: Callable[[Item], Result], batches: Iterator[Item]) -> Iterator[Result]:
        return ordered_map(self._pool, run, batches, ahead=2 * self._engine.num_runners)

    def _area(self, item: Prepared) -> int:
        return item.pixels.shape[0] * item.pixels.shape[1]

    def _grid_area(self, item: ImageTokens) -> int:
        return item.grid[0] * item.grid[1] * self._manifest.image.factor**2

    def _narrowed(self, tokens: NDArray[np.int32]) -> NDArray[np.generic]:
        manifest = self._manifest
        return checked_tokens(tokens, codebook_size=manifest.codebook_size, depth=manifest.depth)

    def _require_tileable(self) -> None:
        if not self._manifest.tileable:
            raise TooLarge(
                f"The model {self._manifest.name} cannot be run in tiles, so an image may have at "
                f"most {self._tile_pixels} pixels.",
                limit=self._tile_pixels,
                setting="tile_pixels",
            )


def _one(encoded: Encoded, index: int) -> Encoded:
    return replace(
        encoded,
        tokens=encoded.tokens[index : index + 1],
        margins=encoded.margins[index : index + 1],
        quantisation_error=None,
        posterior_entropy=None,
    )
