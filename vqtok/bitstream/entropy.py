"""Range coding by integer weights: the one file that knows the library constriction.

It takes probabilities as float64. Ours are integers with a sum below 2⁵³, so every partial sum is
exact; what is left is one division and one product a code, which IEEE 754 rounds in one way only.
So the same weights give the same bytes on every machine. Other floats would be summed with
rounding, whose order compilers and processors may choose.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, cast

import constriction  # pyright: ignore[reportMissingTypeStubs]
import numpy as np
from numpy.typing import NDArray

from vqtok.bitstream.groups import Groups, Tokens
from vqtok.bitstream.tables import CoderTables, Row, Weights
from vqtok.errors import BitstreamDamaged

WORD_BYTES: Final = 4
PRECISION: Final = 24
_CACHED_WEIGHTS: Final = 1 << 22
_stream = cast("Any", constriction).stream
_EACH: Final = _stream.model.Categorical(lazy=True, perfect=False)

Models = Callable[[Row], Any]


def models_of(tables: CoderTables) -> Models:
    """Gives the library's model of a row of weights; keeps those used last."""

    @lru_cache(maxsize=max(64, _CACHED_WEIGHTS // tables.codebook_size))
    def model(row: Row) -> Any:
        # Eager, since many tokens share it; `perfect` would search with floats for the best cut.
        weights = tables.weights(row).astype(np.float64)
        return _stream.model.Categorical(weights, lazy=False, perfect=False)

    return model


def lengths_of(tables: CoderTables) -> Callable[[Row], NDArray[np.float64]]:
    """Gives the bits of every code (K,) by a row of weights; keeps those used last."""

    @lru_cache(maxsize=max(64, _CACHED_WEIGHTS // tables.codebook_size))
    def lengths(row: Row) -> NDArray[np.float64]:
        return PRECISION - np.log2(shares(tables.weights(row)))

    return lengths


def shares(weights: Weights) -> Weights:
    """What each code gets of the 2²⁴ that the range coder divides, (K,); at least 1. Code x begins
    at ⌊w(0 .. x - 1) · ((2²⁴ - K) / Σw)⌋ + x, in float64.
    """
    total = 1 << PRECISION
    scale = (total - len(weights)) / float(weights.sum())
    ends = np.floor(np.cumsum(weights)[:-1] * scale).astype(np.int64) + np.arange(1, len(weights))
    return np.diff(ends, prepend=0, append=total)


def encode(tokens: Tokens, groups: Groups, model: Models) -> bytes:
    """The code of all tokens in the order of the groups: words of 32 bits, little-endian."""
    coder = _stream.queue.RangeEncoder()
    flat = tokens.reshape(-1)
    for row, places in groups:
        coder.encode(flat[places], model(row))
    return _payload_of(coder)


def decode(payload: bytes, tokens: Tokens, groups: Groups, model: Models) -> None:
    """Fill in the tokens, in C order, that `encode` was given.

    Raises:
        BitstreamDamaged: bytes that no encoder writes.
    """
    coder = _decoder_of(payload)
    flat = tokens.reshape(-1)
    try:
        for row, places in groups:
            flat[places] = coder.decode(model(row), len(places))
    except AssertionError:
        raise _wrong_weights() from None


def encode_each(parts: Iterable[tuple[NDArray[np.int32], Weights]]) -> bytes:
    """As `encode`, of codes (n,) each by weights of its own (n, K), part after part."""
    coder = _stream.queue.RangeEncoder()
    for codes, weights in parts:
        coder.encode(codes, _EACH, weights.astype(np.float64))
    return _payload_of(coder)


def decoder_of_each(payload: bytes) -> Callable[[Weights], NDArray[np.int32]]:
    """Gives the next codes (n,) of a payload of `encode_each`, by their weights (n, K).

    Raises:
        BitstreamDamaged: bytes that no encoder writes, here or when it is asked.
    """
    coder = _decoder_of(payload)

    def take(weights: Weights) -> NDArray[np.int32]:
        try:
            return coder.decode(_EACH, weights.astype(np.float64))
        except AssertionError:
            raise _wrong_weights() from None

    return take


def code_lengths(
    tokens: Tokens, groups: Groups, lengths: Callable[[Row], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Bits of each image, (n,), without what a coder adds at its end."""
    flat, bits = tokens.reshape(-1), np.empty(tokens.size, np.float64)
    for row, places in groups:
        bits[places] = lengths(row)[flat[places]]
    return bits.reshape(len(tokens), -1).sum(axis=1)


def _payload_of(coder: Any) -> bytes:
    words: NDArray[np.uint32] = coder.get_compressed()
    return words.astype("<u4").tobytes()


def _decoder_of(payload: bytes) -> Any:
    if len(payload) % WORD_BYTES:
        raise BitstreamDamaged("it is not made of words of 4 bytes", part="payload")
    return _stream.queue.RangeDecoder(np.frombuffer(payload, "<u4").astype(np.uint32))


def _wrong_weights() -> BitstreamDamaged:
    return BitstreamDamaged("these weights give no such bytes", part="tokens")
