"""The tokens that pass, counted in bunches: to count those of one small image would take a tenth of
what the model takes for it.
"""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.statistics import UsageCounter

BUNCH_TOKENS = 8192


class PassingTokens:
    """Tokens and margins on their way into a counter. Safe for several threads; it keeps fewer than
    `BUNCH_TOKENS` tokens and what was last added.
    """

    def __init__(self, codebook_size: int, depth: int) -> None:
        self._counter = UsageCounter(codebook_size, depth)
        self._depth = depth
        self._lock = threading.Lock()
        self._waiting: list[tuple[NDArray[Any], NDArray[np.float32]]] = []
        self._num_waiting = 0

    def add(self, items: Sequence[tuple[NDArray[Any], NDArray[np.float32]]]) -> None:
        """Tokens (h, w[, depth]) and margins (h, w) of some images."""
        with self._lock:
            self._waiting += items
            self._num_waiting += sum(tokens.size for tokens, _ in items)
            if self._num_waiting >= BUNCH_TOKENS:
                self._settle()

    def counted(self) -> UsageCounter:
        """The counter, with everything in it that has been added."""
        with self._lock:
            self._settle()
        return self._counter

    def _settle(self) -> None:
        if not self._waiting:
            return
        tokens = np.concatenate([each.reshape(-1, self._depth) for each, _ in self._waiting])
        margins = np.concatenate([each.reshape(-1) for _, each in self._waiting])
        self._waiting, self._num_waiting = [], 0
        # (n, 1, depth), or (n, 1): a grid of n rows.
        self._counter.add(tokens[:, None] if self._depth > 1 else tokens, margins)
