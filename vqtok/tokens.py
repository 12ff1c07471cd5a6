"""Tokens of images, as they are handed between the parts of vqtok.

A token is an index into the codebook, base 0. The tokens of one image are an array of shape `(h,
w)`, or `(h, w, depth)` when the tokenizer is residual; raster order, depth last. Nothing else
here assumes a rank.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidTokens, VqtokError, error_from_problem

UINT16_CODES = 65_536


def token_dtype(codebook_size: int) -> np.dtype[Any]:
    """The dtype of tokens at rest and on the wire: uint16 while `codebook_size` <= 65536, else
    uint32.
    """
    return np.dtype(np.uint16 if codebook_size <= UINT16_CODES else np.uint32)


def checked_tokens(array: NDArray[Any], *, codebook_size: int, depth: int) -> NDArray[Any]:
    """The same tokens in `token_dtype(codebook_size)`, after every value has been found in range.

    `array` has any integer dtype and the shape `(*grid)` or `(N, *grid)`: two axes at least, and
    when `depth` > 1 a last axis of that length. Values are compared before they are narrowed, so
    none can wrap round.

    Raises:
        InvalidTokens: floats or booleans, a value outside 0 .. codebook_size - 1, too few axes,
        another depth.
    """
    if array.dtype.kind not in "iu":
        raise InvalidTokens(f"Tokens must be integers, not {array.dtype}.")
    if array.ndim < 2 + (depth > 1):
        raise InvalidTokens(
            f"Tokens of shape {array.shape} have too few axes: {_wanted_grid(depth)}."
        )
    if depth > 1 and array.shape[-1] != depth:
        raise InvalidTokens(
            f"Tokens of shape {array.shape} have another depth: {_wanted_grid(depth)}."
        )
    if array.size:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= codebook_size:
            wrong = low if low < 0 else high
            raise InvalidTokens(
                f"Token {wrong} is outside 0 .. {codebook_size - 1}, the codes of this codebook."
            )
    return array.astype(token_dtype(codebook_size), copy=False)


@dataclass(frozen=True, eq=False)
class ImageTokens:
    """The tokens of one image.

    `tokens` has the shape of the grid, `(h, w)` or `(h, w, depth)`. `size` is the picture to
    return, (height, width): a decoder crops to it, and returns the whole grid where it is None.
    `margin` is float32 `(h, w)` in 0 .. 1, how clearly each token won, where it is known.
    """

    tokens: NDArray[Any]
    size: tuple[int, int] | None = None
    margin: NDArray[np.float32] | None = None

    @property
    def grid(self) -> tuple[int, ...]:
        """Shape of the tokens: (h, w) or (h, w, depth)."""
        return self.tokens.shape

    def checked(self, *, codebook_size: int, depth: int) -> "ImageTokens":
        """The same item with tokens as `checked_tokens` returns them, of exactly one image.

        Raises:
            InvalidTokens: as `checked_tokens`; also tokens of no image at all or of another rank.
        """
        tokens = checked_tokens(self.tokens, codebook_size=codebook_size, depth=depth)
        if tokens.ndim != 2 + (depth > 1) or not tokens.size:
            raise InvalidTokens(
                f"A grid of shape {tokens.shape} does not fit: {_wanted_grid(depth)}, no side 0."
            )
        return replace(self, tokens=tokens)


@dataclass(frozen=True, eq=False)
class StackedTokens(Sequence[ImageTokens]):
    """The tokens of images of one grid and size, in one array: an image becomes an object of its
    own only where somebody asks for it.

    `tokens` is (N, h, w) or (N, h, w, depth), `margins` float32 (N, h, w) where they are known;
    `size` as in `ImageTokens`.
    """

    tokens: NDArray[Any]
    size: tuple[int, int] | None = None
    margins: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, index: int) -> ImageTokens: ...

    @overload
    def __getitem__(self, index: slice) -> "StackedTokens": ...

    def __getitem__(self, index: int | slice) -> "ImageTokens | StackedTokens":
        margins = None if self.margins is None else self.margins[index]
        if isinstance(index, slice):
            return StackedTokens(self.tokens[index], self.size, margins)
        return ImageTokens(self.tokens[index], self.size, margins)

    def __iter__(self) -> Iterator[ImageTokens]:
        return (self[index] for index in range(len(self)))

    def checked(self, *, codebook_size: int, depth: int) -> "StackedTokens":
        """The same images with tokens as `checked_tokens` returns them.

        Raises:
            InvalidTokens: as `ImageTokens.checked`, without naming the image.
        """
        tokens = checked_tokens(self.tokens, codebook_size=codebook_size, depth=depth)
        if tokens.ndim != 3 + (depth > 1) or not tokens.size:
            raise InvalidTokens(
                f"Grids of shape {tokens.shape[1:]} do not fit: {_wanted_grid(depth)}, no side 0."
            )
        return replace(self, tokens=tokens)


@dataclass(frozen=True)
class ItemError:
    """Stands in a batch where an item failed; `code` is that of an error class."""

    code: str
    detail: str

    @staticmethod
    def of(error: VqtokError) -> "ItemError":
        """What an error leaves behind in a batch."""
        return ItemError(error.code, error.detail)

    def to_error(self) -> VqtokError:
        """The error to raise for this item."""
        return error_from_problem(self.code, self.detail)


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Tokens of several images, with the ids that say what they mean.

    `model` is `name` or `name@version`, `codebook_id` tells who can decode them, `tokenizer_id`
    and `preprocess` which tokens are comparable; each is None where a sender left it out.
    """

    model: str | None
    codebook_id: str | None
    tokenizer_id: str | None
    preprocess: str | None
    items: Sequence[ImageTokens | ItemError]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def images(self) -> Sequence[ImageTokens]:
        """All items, when none failed.

        Raises:
            VqtokError: the first failed item, as the error that it stands for.
        """
        if isinstance(self.items, StackedTokens):
            return self.items
        return tuple(_require_image(item) for item in self.items)

    def checked(self, *, codebook_size: int, depth: int) -> "TokenBatch":
        """The same batch with every image's tokens checked and narrowed.

        Raises:
            InvalidTokens: naming the item, counted from 0, and what is wrong with it.
        """
        if isinstance(self.items, StackedTokens):
            # When something is wrong each is looked at, to say which one it is.
            with contextlib.suppress(InvalidTokens):
                stack = self.items.checked(codebook_size=codebook_size, depth=depth)
                return replace(self, items=stack)
        return replace(self, items=tuple(_checked_items(self.items, codebook_size, depth)))


def _checked_items(
    items: Sequence[ImageTokens | ItemError], codebook_size: int, depth: int
) -> list[ImageTokens | ItemError]:
    done: list[ImageTokens | ItemError] = []
    for index, item in enumerate(items):
        try:
            done.append(
                item
                if isinstance(item, ItemError)
                else item.checked(codebook_size=codebook_size, depth=depth)
            )
        except InvalidTokens as error:
            raise InvalidTokens(f"Item {index}: {error.detail}") from error
    return done


def _require_image(item: ImageTokens | ItemError) -> ImageTokens:
    if isinstance(item, ItemError):
        raise item.to_error()
    return item


def _wanted_grid(depth: int) -> str:
    return f"this model's grid is (h, w, {depth})" if depth > 1 else "this model's grid is (h, w)"
