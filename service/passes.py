"""Passes of a prior as rows of the queue: what is asked of it in one array, and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.rows import Row
from vqtok.errors import VqtokError
from vqtok.manifest import Manifest
from vqtok.priors import Ask, stack

REVEAL = "reveal"
"""The kind of work that is a pass of the prior."""


def packed(asks: Sequence[Ask]) -> NDArray[np.int32]:
    """int32 (n, N + 1 + P): the tokens of each, its label, its positions."""
    tokens, labels, positions = stack(asks)
    return np.concatenate([tokens, labels[:, None], positions], axis=1)


def unpacked(rows: NDArray[Any], manifest: Manifest) -> tuple[NDArray[np.int32], ...]:
    """Tokens (n, N), labels (n,) and positions (n, P) of packed rows."""
    size = int(np.prod(manifest.grid))
    parts = rows[:, :size], rows[:, size], rows[:, size + 1 :]
    return tuple(np.ascontiguousarray(part) for part in parts)


def logits_in(row: Row) -> NDArray[np.float32]:
    """The logits (P, K) that came of a row.

    Raises:
        ModelFailure: the prior failed on it.
    """
    if isinstance(row, VqtokError):
        raise row
    return row[0]
