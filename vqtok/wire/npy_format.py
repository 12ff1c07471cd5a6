"""`application/x-npy`: one array in NumPy's own file format, versions 1.0 to 3.0.

Tokens are `(N, *grid)`, or `(N, n)` when flat; images are uint8 `(N, H, W, 3)`. Little-endian and
in C order, nothing else: a reader then never copies. The header is read by a pattern and not by
Python, objects are never unpickled, and the shape must account for every byte of the body.
"""

import io
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidParameter, InvalidTokens, MalformedBody, NotAcceptable
from vqtok.tokens import ImageTokens, StackedTokens, TokenBatch
from vqtok.wire.format import DecodeOptions, EncodeOptions, WireFormat, as_dtype

MEDIA_TYPE = "application/x-npy"
MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 10_000
MAX_AXES = 8
RECENT_HEADERS = 64
"""Callers send the same ones again and again."""
LENGTH_FIELDS = {(1, 0): "<H", (2, 0): "<I", (3, 0): "<I"}

DESCR = re.compile(r"""(['"])descr\1\s*:\s*(['"])([<>|]?)([a-zA-Z])([0-9]{0,4})\2""")
ORDER = re.compile(r"""(['"])fortran_order\1\s*:\s*(True|False)""")
SHAPE = re.compile(r"""(['"])shape\1\s*:\s*\(([0-9L,\s]*)\)""")
SIDE = re.compile(r"\s*([0-9]{1,12})L?\s*")


@dataclass(frozen=True)
class NpyHeader:
    """What an npy file states about itself; the data begin at `data_offset`."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    data_offset: int

    @property
    def file_bytes(self) -> int:
        """Length of the whole file."""
        return self.data_offset + math.prod(self.shape) * self.dtype.itemsize


def npy_header(prefix: bytes) -> NpyHeader | None:
    """The header of a file of which `prefix` is the beginning; None while more bytes are needed
    to tell.

    Raises:
        MalformedBody: not an npy file of version 1.0 to 3.0 with little-endian numbers in C order.
    """
    if not MAGIC.startswith(prefix[: len(MAGIC)]):
        raise MalformedBody("The body is not an npy file: it does not begin as one.")
    if len(prefix) < 8:
        return None
    field = LENGTH_FIELDS.get((prefix[6], prefix[7]))
    if field is None:
        raise MalformedBody(f"npy version {prefix[6]}.{prefix[7]} is not one of 1.0, 2.0 and 3.0.")
    start = 8 + struct.calcsize(field)
    if len(prefix) < start:
        return None
    (length,) = struct.unpack_from(field, prefix, 8)
    if length > MAX_HEADER_BYTES:
        raise MalformedBody(
            f"The npy header states {length} bytes, at most {MAX_HEADER_BYTES} are read."
        )
    if len(prefix) < start + length:
        return None
    return _parse(prefix[start : start + length].decode("latin-1"), start + length)


@lru_cache(RECENT_HEADERS)
def _parse(text: str, data_offset: int) -> NpyHeader:
    descr, order, shape = DESCR.search(text), ORDER.search(text), SHAPE.search(text)
    if descr is None or order is None or shape is None:
        raise MalformedBody(
            "The npy header does not state a dtype, an order and a shape of plain numbers."
        )
    # One of each: what is stated twice stays behind, and is refused.
    rest = SHAPE.sub("", ORDER.sub("", DESCR.sub("", text, count=1), count=1), count=1)
    if not re.fullmatch(r"\{[\s,]*\}\s*", rest):
        raise MalformedBody("The npy header states more than a dtype, an order and a shape.")
    if order[2] == "True":
        raise MalformedBody("The npy array is in Fortran order: send np.ascontiguousarray(array).")
    return NpyHeader(_dtype(*descr.group(3, 4, 5)), _shape(shape[2]), data_offset)


def _shape(text: str) -> tuple[int, ...]:
    """A tuple as Python writes it: "(3,)" and not "(3)"; a comma may follow the last of several."""
    sides = text.split(",")
    matches = [SIDE.fullmatch(side) for side in (sides[:-1] if not sides[-1].strip() else sides)]
    single = len(matches) == 1 and "," not in text
    if single or len(matches) > MAX_AXES or any(match is None for match in matches):
        raise MalformedBody(f"The npy header states no shape: ({text[:40]}).")
    return tuple(int(match[1]) for match in matches if match)


def _dtype(order: str, kind: str, size: str) -> np.dtype[Any]:
    if kind not in "biuf":
        raise MalformedBody(f"The npy array holds no plain numbers (dtype {order}{kind}{size}).")
    if order == ">":
        raise MalformedBody(
            "The npy array is big-endian: send array.astype(array.dtype.newbyteorder('<'))."
        )
    try:
        return np.dtype(f"<{kind}{size}")
    except TypeError as error:
        raise MalformedBody(f"The npy array has an unknown dtype: {order}{kind}{size}.") from error


def read_array(body: bytes) -> NDArray[Any]:
    """The array that a body is, as a read-only view of it.

    Raises:
        MalformedBody: as `npy_header`; also a body that is shorter or longer than its header says.
    """
    header = npy_header(body)
    if header is None:
        raise MalformedBody(
            f"The npy file is cut short: its {len(body)} bytes end within the header."
        )
    if header.file_bytes != len(body):
        raise MalformedBody(
            f"The npy header states {header.file_bytes} bytes (dtype {header.dtype}, shape"
            f" {header.shape}), {len(body)} arrived."
        )
    return np.frombuffer(body, header.dtype, offset=header.data_offset).reshape(header.shape)


def write_array(array: NDArray[Any]) -> bytes:
    """An array as an npy file of version 1.0, little-endian and in C order."""
    target = io.BytesIO()
    little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    np.lib.format.write_array(target, little, version=(1, 0), allow_pickle=False)
    return target.getvalue()


def encode_tokens(batch: TokenBatch, options: EncodeOptions | None = None) -> bytes:
    """A batch of equal grids and sizes as one array. The size and the ids are not in it:
    `common_size`.

    Raises:
        NotAcceptable: a failed item, different grids or sizes, no item at all.
    """
    options = options or EncodeOptions()
    tokens = as_dtype(_stacked(batch), options.dtype)
    return write_array(tokens.reshape(len(tokens), -1) if options.layout == "flat" else tokens)


def _stacked(batch: TokenBatch) -> NDArray[Any]:
    if isinstance(batch.items, StackedTokens) and len(batch):
        return batch.items.tokens
    common_size(batch)
    images = batch.images
    grids = {item.grid for item in images}
    if len(grids) != 1:
        raise NotAcceptable(
            f"One npy array carries tokens of one grid, not {len(grids)}: ask for application/json."
        )
    return np.stack([item.tokens for item in images])


def common_size(batch: TokenBatch) -> tuple[int, int] | None:
    """The (H, W) to return that all items share; it travels beside an npy array.

    Raises:
        NotAcceptable: a failed item, or different sizes.
    """
    if isinstance(batch.items, StackedTokens):
        return batch.items.size
    failed = [item for item in batch.items if not isinstance(item, ImageTokens)]
    if failed:
        raise NotAcceptable("An npy array carries no failed items: ask for application/json.")
    sizes = {item.size for item in batch.items if isinstance(item, ImageTokens)}
    if len(sizes) > 1:
        raise NotAcceptable(
            "One npy array carries images of one size to return: ask for application/json."
        )
    return sizes.pop() if sizes else None


def decode_tokens(body: bytes, options: DecodeOptions | None = None) -> TokenBatch:
    """The batch that a body carries, tokens as views of it in the dtype that was sent; ids and
    names are None.

    Raises:
        MalformedBody: as `read_array`.
        InvalidTokens: no integers; not (N, h, w), (N, h, w, depth), or (N, n) with
        `options.grid`; nothing in it.
    """
    options = options or DecodeOptions()
    tokens = read_array(body)
    if tokens.dtype.kind not in "iu":
        raise InvalidTokens(f"Tokens must be integers, not {tokens.dtype}.")
    if not tokens.size:
        raise InvalidTokens(f"An array of shape {tokens.shape} holds no tokens.")
    if options.grid is not None and tokens.ndim >= 2:
        if math.prod(tokens.shape[1:]) != math.prod(options.grid):
            raise InvalidTokens(
                f"Tokens of shape {tokens.shape} do not fill grids of {options.grid}."
            )
        tokens = tokens.reshape(-1, *options.grid)
    if tokens.ndim not in (3, 4):
        raise InvalidTokens(
            f"Tokens of shape {tokens.shape} are not (N, h, w) or (N, h, w, depth);"
            " flat ones, (N, n), need the parameter grid."
        )
    return TokenBatch(None, None, None, None, StackedTokens(tokens, options.size))


def encode_images(images: Sequence[NDArray[np.uint8]]) -> bytes:
    """Images, uint8 (H, W, 3) of one size, as one array (N, H, W, 3).

    Raises:
        NotAcceptable: different sizes, or no image at all.
    """
    if len({image.shape for image in images}) != 1:
        raise NotAcceptable(
            "One npy array carries images of one size: ask for application/zip or application/json."
        )
    return write_array(np.stack(images))


def decode_images(body: bytes) -> NDArray[np.uint8]:
    """The images that a body carries, uint8 (N, H, W, 3), as a read-only view of it.

    Raises:
        MalformedBody: as `read_array`.
        InvalidParameter: another dtype or shape, or nothing in it.
    """
    images = read_array(body)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
        raise InvalidParameter(
            "Images as npy are uint8 of shape (N, H, W, 3),"
            f" not {images.dtype} of shape {images.shape}."
        )
    return images


NPY = WireFormat(
    MEDIA_TYPE,
    encode_tokens,
    decode_tokens,
    carries_errors=False,
    carries_mixed_sizes=False,
    carries_ids=False,
)
