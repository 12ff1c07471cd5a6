"""One interface for a tokenizer in this process and one behind HTTP."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from vqtok.bitstream import Coding, Rate, bits_per_image
from vqtok.errors import CodebookMismatch, InvalidInput, InvalidParameter
from vqtok.identity import SHORT_ID_LENGTH, ContentId
from vqtok.manifest import Manifest
from vqtok.pictures import ImageSource
from vqtok.priors import SampleOptions
from vqtok.priors.wish import whole
from vqtok.tokens import ImageTokens, TokenBatch


@dataclass(frozen=True)
class TokenizerInfo:
    """What a caller must know of a model: its names, ids and sizes, as in its manifest."""

    name: str
    version: str
    method: str
    codebook_id: ContentId
    tokenizer_id: ContentId
    factor: int
    native_size: tuple[int, int]
    grid: tuple[int, ...]
    depth: int
    codebook_size: int
    code_dim: int

    @staticmethod
    def of(manifest: Manifest) -> "TokenizerInfo":
        """The part of a manifest that callers need."""
        return TokenizerInfo(
            name=manifest.name,
            version=manifest.version,
            method=manifest.method,
            codebook_id=manifest.codebook_id,
            tokenizer_id=manifest.tokenizer_id,
            factor=manifest.image.factor,
            native_size=manifest.image.native_size,
            grid=manifest.grid,
            depth=manifest.depth,
            codebook_size=manifest.codebook_size,
            code_dim=manifest.code_dim,
        )


@dataclass(frozen=True, eq=False)
class Samples:
    """`images` uint8 (H, W, 3) and their `tokens`. `bits` float64 (n,) is the code length of what
    was drawn of each grid, under the prior given the label; `drawn_bits`, under the distribution
    that it was drawn from, as temperature, cuts and guidance had made it. The same `seed` gives the
    same samples.
    """

    images: list[NDArray[np.uint8]]
    tokens: TokenBatch
    bits: NDArray[np.float64]
    drawn_bits: NDArray[np.float64]
    seed: int


Tokens = TokenBatch | Iterable[ImageTokens | NDArray[Any]]
"""What can be decoded: a batch as `encode` returns it, or grids (h, w) or (h, w, depth)."""


class Tokenizer(Protocol):
    """Images to tokens and back. Use it as a context manager, or call `close`.

    Every method raises a subclass of `vqtok.VqtokError` and nothing else on purpose.
    """

    @staticmethod
    def open(path: Path | str, device: str = "auto") -> "Tokenizer":
        """Open a bundle in this process, on "cpu", "cuda" or "auto".

        Raises:
            BundleError: the folder is no sound bundle.
            RuntimeUnavailable: no onnxruntime is installed, or the device does not open.
        """
        from vqtok.local import open_tokenizer

        return open_tokenizer(path, device)

    @staticmethod
    def connect(
        url: str, *, model: str | None = None, api_key: str | None = None, timeout: float = 60.0
    ) -> "Tokenizer":
        """Use a running service, its default model unless `model` names one.

        Raises:
            RemoteError: no vqtok service answers there.
            KeyMissing, KeyRefused: it lets in only callers with a key that it knows.
            UnknownModel: it does not serve that model.
        """
        from vqtok.client import connect_tokenizer

        return connect_tokenizer(url, model=model, api_key=api_key, timeout=timeout)

    @property
    def info(self) -> TokenizerInfo: ...

    def encode(
        self,
        images: Sequence[ImageSource],
        preprocess: str = "pad",
        *,
        image_size: int | tuple[int, int] | None = None,
    ) -> TokenBatch:
        """Tokens of images, in their order.

        `preprocess` is one of `vqtok.images.PREPROCESS`; `image_size` is (H, W) or one side of a
        square for those that resize, by default the native size.

        Raises:
            InvalidInput: an image that does not read or fit; the detail says which one.
            InvalidParameter: another mode, or no such size.
        """
        ...

    def decode(self, tokens: Tokens) -> list[NDArray[np.uint8]]:
        """Pictures uint8 (H, W, 3), cropped to each item's size.

        Raises:
            InvalidTokens: out of range, floats, another rank.
            CodebookMismatch: the batch carries the id of another codebook.
        """
        ...

    def reconstruct(
        self, images: Sequence[ImageSource], preprocess: str = "pad"
    ) -> list[NDArray[np.uint8]]:
        """`decode(encode(images, preprocess))`."""
        return self.decode(self.encode(images, preprocess))

    def sample(self, n: int = 1, **options: Unpack[SampleOptions]) -> Samples:
        """New pictures. Sample i depends on (seed, i) and the options only; the seed is 0 unless
        said otherwise.

        temperature, top_k, top_p change the model's distribution before a code is drawn; 0 takes
        the likeliest everywhere. With a learned prior a `label` (number or name) may be asked for,
        and `cfg_scale` guides to it. `known` tokens where the `mask` is true stay as they are, and
        the rest is painted in. `grid` is another grid than the native one, drawn window by window.
        `passes`: calls of the prior, its own number when left out.

        Behind HTTP all n are one request, so that a service's limits hold for them: `max_items`,
        1024 unless its operator says otherwise, and `max_request_pixels`. In this process there is
        no limit.

        Raises:
            InvalidParameter: n < 1, a seed outside 0 .. 2**64 - 1, a temperature that is negative
            or not finite, anything that is no number; what the model's prior does not know.
            InvalidTokens: known tokens that are no codes, or not of the grid's shape.
            TooLarge: n is above a limit of the service.
        """
        ...

    def bits_per_image(self, tokens: Tokens) -> list[dict[str, Rate]]:
        """For each image its code length in bits by every coder of bitstreams, named as in
        `vqtok.bitstream.RATES`; None with a reason where a coder does not apply.

        Those of a learned prior take it some milliseconds an image. A service tells it of tokens
        that it makes (`detail=bits`); a tokenizer behind HTTP has no tables, and knows `fixed`
        alone.

        Raises:
            InvalidTokens: out of range, floats, another rank.
            CodebookMismatch: the batch carries the id of another codebook.
            ModelFailure: the prior failed.
        """
        batch = as_batch(tokens)
        require_codebook(self.info.codebook_id, batch.codebook_id)
        return bits_per_image(batch.images, self.coding)

    @property
    def coding(self) -> Coding:
        """The coders of bitstreams of these tokens; behind HTTP without tables."""
        return Coding(self.info.codebook_size, self.info.depth)

    def codebook(self) -> NDArray[np.float32]:
        """The code table, float32 (K, D) or (depth, K, D)."""
        ...

    def close(self) -> None:
        """Give back what the tokenizer holds."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def require_codebook(own: ContentId, given: str | None) -> None:
    """Raise CodebookMismatch, naming both ids, when tokens state another codebook than `own`."""
    if given is not None and not own.matches(given):
        raise CodebookMismatch(
            f"The tokens are of codebook {given[:SHORT_ID_LENGTH]}, this model's codebook is "
            f"{own.short}: use the model that made them."
        )


def checked_image_size(image_size: Any) -> tuple[int, int] | None:
    """(H, W) from a pair or from one side of a square; None stands for the native size.

    Raises:
        InvalidParameter: anything else, or a side below 1.
    """
    if image_size is None:
        return None
    is_pair = isinstance(image_size, tuple | list)
    sides = cast("Sequence[Any]", image_size) if is_pair else (image_size, image_size)
    if len(sides) != 2:
        raise InvalidParameter(f"image_size is (height, width), not {len(sides)} numbers.")
    height, width = (whole(side, "A side of image_size") for side in sides)
    if min(height, width) < 1:
        raise InvalidParameter(f"image_size must be positive, not {height} x {width}.")
    return height, width


def as_batch(tokens: Tokens) -> TokenBatch:
    """Tokens as a batch without ids, unless they are one already.

    Raises:
        InvalidInput: one array where a sequence of grids is wanted and it has no batch axis.
    """
    if isinstance(tokens, TokenBatch):
        return tokens
    if isinstance(tokens, np.ndarray) and cast("NDArray[Any]", tokens).ndim < 3:
        raise InvalidInput("decode takes several grids: put a single one into a list.")
    items = tuple(
        item if isinstance(item, ImageTokens) else ImageTokens(np.asarray(item)) for item in tokens
    )
    return TokenBatch(None, None, None, None, items)
