"""The coder `packed`: ⌈log₂ K⌉ bits a token, the highest bit first. It needs no tables."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_BLOCK: Final = 1 << 16
"""Tokens at a time, a multiple of 8: bits are bytes for a moment."""


def bits_per_token(codebook_size: int) -> int:
    """⌈log₂ K⌉; 0 for a single code."""
    return (codebook_size - 1).bit_length()


def packed_bytes(num_tokens: int, codebook_size: int) -> int:
    """Length of the payload."""
    return -(-num_tokens * bits_per_token(codebook_size) // 8)


def pack(tokens: NDArray[Any], codebook_size: int) -> bytes:
    """Tokens of any shape, in C order, as bits; the last byte is filled up with zeros."""
    width = bits_per_token(codebook_size)
    shifts = np.arange(width - 1, -1, -1, dtype=np.uint32)
    flat = tokens.reshape(-1).astype(np.uint32)
    parts = [flat[start : start + _BLOCK] for start in range(0, len(flat), _BLOCK)]
    return b"".join(
        np.packbits((part[:, None] >> shifts & 1).astype(np.uint8)).tobytes() for part in parts
    )


def unpack(payload: bytes, num_tokens: int, codebook_size: int) -> NDArray[np.uint32]:
    """The `num_tokens` tokens of a payload that has the length which they need, unchecked."""
    width = bits_per_token(codebook_size)
    tokens = np.zeros(num_tokens, np.uint32)
    data = np.frombuffer(payload, np.uint8)
    for start in range(0, num_tokens if width else 0, _BLOCK):
        part = tokens[start : start + _BLOCK]
        bits = np.unpackbits(data[start * width // 8 :][: _BLOCK * width // 8])
        for bit in bits[: len(part) * width].reshape(-1, width).T:
            part <<= 1
            part |= bit
    return tokens
