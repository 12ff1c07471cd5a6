"""Files of tokens: .npz with everything that is known, .npy with equal grids only, .json as on the
wire.

An .npz holds `grids` int64 (N, 2 or 3), `sizes` int64 (N, 2), the pictures to return, `names`
(N,), and the texts `model`, `codebook_id`, `tokenizer_id` and `preprocess`. `tokens` is (N, *grid)
where all grids are equal, else all of them flat, one after the other.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidInput, InvalidTokens
from vqtok.pictures import read_bytes
from vqtok.tokens import ImageTokens, TokenBatch
from vqtok.wire import DecodeOptions, EncodeOptions, json_format, npy_format

LABELS = ("model", "codebook_id", "tokenizer_id", "preprocess")
SUFFIXES = (".npz", ".npy", ".json")


def require_token_file(path: Path) -> None:
    """Find out before any work that a file of tokens cannot be written.

    Raises:
        InvalidTokens: a suffix that is none of a file of tokens.
        InvalidInput: there is no such folder.
    """
    if path.suffix not in SUFFIXES:
        raise _unknown(path)
    if not path.absolute().parent.is_dir():
        raise InvalidInput(f"{path} cannot be written: there is no folder {path.parent}.")


def write_tokens(path: Path, batch: TokenBatch, names: Sequence[str] = ()) -> None:
    """Write a batch in the format of the path's suffix; `names` are kept by .npz alone.

    Raises:
        InvalidTokens: another suffix.
        NotAcceptable: a batch that the format cannot carry.
    """
    if path.suffix == ".npz":
        data = _to_npz(batch, names or [f"{index:05d}" for index in range(len(batch))])
    elif path.suffix == ".npy":
        data = npy_format.encode_tokens(batch)
    elif path.suffix == ".json":
        data = json_format.encode_tokens(batch, EncodeOptions(detail=True))
    else:
        raise _unknown(path)
    path.write_bytes(data)


def read_tokens(path: Path) -> tuple[TokenBatch, list[str]]:
    """A batch and a name for each of its items.

    Raises:
        InvalidInput: the file does not read, or holds no tokens.
    """
    data = read_bytes(path)
    if path.suffix == ".npz":
        return _from_npz(data, path.name)
    if path.suffix == ".npy":
        batch = npy_format.decode_tokens(data)
    elif path.suffix == ".json":
        batch = json_format.decode_tokens(data, DecodeOptions(answer=True))
    else:
        raise _unknown(path)
    return batch, [f"{index:05d}" for index in range(len(batch))]


def _to_npz(batch: TokenBatch, names: Sequence[str]) -> bytes:
    grids = [item.tokens for item in batch.images]
    alike = len({grid.shape for grid in grids}) == 1
    tokens = np.stack(grids) if alike else np.concatenate([grid.ravel() for grid in grids])
    sizes = [item.size or (0, 0) for item in batch.images]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        tokens=tokens,
        grids=np.array([grid.shape for grid in grids], np.int64),
        sizes=np.array(sizes, np.int64),
        names=np.array(names, np.str_),
        **{label: np.array(getattr(batch, label) or "", np.str_) for label in LABELS},
    )
    return buffer.getvalue()


def _from_npz(data: bytes, file: str) -> tuple[TokenBatch, list[str]]:
    arrays = _load_arrays(data, file)
    try:
        grids = [tuple(int(side) for side in grid) for grid in arrays["grids"]]
        ends = np.cumsum([int(np.prod(grid)) for grid in grids])
        parts = np.split(arrays["tokens"].ravel(), ends)
        if len(parts[-1]):
            raise ValueError("its grids do not account for all tokens")
        items = tuple(
            ImageTokens(part.reshape(grid), _size(size))
            for part, grid, size in zip(parts[:-1], grids, arrays["sizes"], strict=True)
        )
        labels = {label: str(arrays[label]) or None for label in LABELS}
        return TokenBatch(**labels, items=items), [str(name) for name in arrays["names"]]
    except KeyError as error:
        raise InvalidTokens(f"{file} is no file of tokens: it lacks {error}.") from error
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidTokens(f"{file} is no file of tokens: {error}.") from error


def _load_arrays(data: bytes, file: str) -> dict[str, NDArray[Any]]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    # A damaged archive raises nearly everything: BadZipFile, zlib.error, NotImplementedError,
    # RuntimeError, tokenize.TokenError, MemoryError. Whatever it is, the file is at fault.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InvalidTokens(f"{file} is no file of tokens: {reason}.") from error


def _size(size: NDArray[Any]) -> tuple[int, int] | None:
    height, width = (int(side) for side in size)
    return (height, width) if height and width else None


def _unknown(path: Path) -> InvalidTokens:
    return InvalidTokens(f"{path.name}: tokens are kept in {', '.join(SUFFIXES)} files.")
