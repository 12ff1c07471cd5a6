"""What a wire format of tokens is, and the options that all formats share."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.bitstream import AUTO, CHOICES, CoderTables, Coding
from vqtok.errors import InvalidParameter
from vqtok.tokens import TokenBatch

TOKEN_DTYPES = ("uint16", "uint32", "int32", "int64")
LAYOUTS = ("grid", "flat")


@dataclass(frozen=True)
class EncodeOptions:
    """How tokens are written.

    `dtype` is one of `TOKEN_DTYPES`, or None for that of the tokens; it shows in binary formats
    only. `layout` is `grid`, arrays of the shape of the grid, or `flat`, raster order with depth
    last. `detail` adds the margins where a format has room for them, `rates` the bits of each
    image by every coder. `coder` is how a bitstream is coded, one of `vqtok.bitstream.CHOICES`;
    it and the rates take the codebook's `coding`. Rates of its learned prior may be there already:
    `prior_bits` of the images that did not fail, as `vqtok.bitstream.bits_per_image` takes them.

    Raises:
        InvalidParameter: a value that is none of these.
    """

    dtype: str | None = None
    layout: str = "grid"
    detail: bool = False
    rates: bool = False
    coder: str = AUTO
    coding: Coding | None = None
    prior_bits: Sequence[float | None] | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in TOKEN_DTYPES:
            raise InvalidParameter(
                f"dtype is one of {', '.join(TOKEN_DTYPES)}, not {self.dtype!r}."
            )
        if self.layout not in LAYOUTS:
            raise InvalidParameter(f"layout is one of {', '.join(LAYOUTS)}, not {self.layout!r}.")
        if self.coder not in CHOICES:
            raise InvalidParameter(
                f"coder is one of {', '.join(CHOICES)}, not {self.coder[:40]!r}."
            )


@dataclass(frozen=True)
class DecodeOptions:
    """What a body of tokens does not say itself.

    `grid` is (h, w) or (h, w, depth) of tokens sent flat in a format without grids; `size` is (H,
    W) of the pictures to return. With `answer`, the body is what a service sent, and keys added by
    a newer service are ignored. Without, the body is a request: unknown keys are refused, and more
    than `max_items` items. `tables` are those that bitstreams of the codebook are coded by.
    """

    grid: tuple[int, ...] | None = None
    size: tuple[int, int] | None = None
    answer: bool = False
    max_items: int | None = None
    tables: CoderTables | None = None


@dataclass(frozen=True)
class WireFormat:
    """One way to write a batch of tokens as bytes. Both functions are pure; laws:
    tests/contracts/wire_format.py.

    `encode_tokens(batch, options)` raises `NotAcceptable` for a batch that the format cannot
    carry, as the three flags say: failed items, images of different grids or sizes, the ids and
    the size beside the tokens. `decode_tokens(body, options)` gives tokens of whatever integer
    dtype arrived, unchecked against a codebook (`TokenBatch.checked` does that), and raises
    `MalformedBody`, `InvalidTokens` or `TooLarge`.
    """

    media_type: str
    encode_tokens: Callable[[TokenBatch, EncodeOptions], bytes]
    decode_tokens: Callable[[bytes, DecodeOptions], TokenBatch]
    carries_errors: bool = field(kw_only=True)
    carries_mixed_sizes: bool = field(kw_only=True)
    carries_ids: bool = field(kw_only=True)


def as_dtype(tokens: NDArray[Any], dtype: str | None) -> NDArray[Any]:
    """Tokens in C order, in the machine's byte order and in `dtype`, none of them changed.

    Raises:
        InvalidParameter: a token that `dtype` cannot hold.
    """
    if dtype is None and tokens.dtype.isnative:
        return np.ascontiguousarray(tokens)
    wanted = np.dtype(dtype) if dtype else tokens.dtype.newbyteorder("=")
    if tokens.size and not np.can_cast(tokens.dtype, wanted) and not _holds(wanted, tokens):
        raise InvalidParameter(f"dtype={wanted} cannot hold these tokens: ask for another.")
    return np.ascontiguousarray(tokens, dtype=wanted)


def _holds(dtype: np.dtype[Any], tokens: NDArray[Any]) -> bool:
    held = np.iinfo(dtype)
    return held.min <= int(tokens.min()) and int(tokens.max()) <= held.max


def format_size(size: tuple[int, int]) -> str:
    """A picture's (height, width) as the text `HxW` of headers and parameters."""
    return f"{size[0]}x{size[1]}"


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) from the text `HxW`.

    Raises:
        InvalidParameter: another form, or a side of 0.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,8})x([1-9][0-9]{0,8})", text.strip())
    if match is None:
        raise InvalidParameter(f"size is HxW in pixels, such as 480x640, not {text[:40]!r}.")
    return int(match[1]), int(match[2])
