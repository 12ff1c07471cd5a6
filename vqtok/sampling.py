"""New token grids from a table of frequencies per position.

The table is the simplest prior that can be measured: every position on its own, nothing known of
its neighbours. Its samples show which codes stand where, not what a picture looks like.
"""

import math

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidParameter

_TWO_POW_64 = 1 << 64
_UNIT = 2.0**-53


class PositionTablePrior:
    """p(code | position) from counts of training tokens.

    One half is added to every count, but only of codes that training used at all (`usage`): a code
    that the decoder never saw is never drawn. Without any count all codes are equally likely.

    `position_counts` is (h, w[, depth], K) and `usage` (K,) or (depth, K); it is summed from the
    counts when left out.
    """

    def __init__(
        self, position_counts: NDArray[np.integer], usage: NDArray[np.integer] | None = None
    ) -> None:
        self.grid: tuple[int, ...] = position_counts.shape[:-1]
        counts = position_counts.astype(np.float64)
        seen = counts.sum(axis=(0, 1)) > 0 if usage is None else np.asarray(usage) > 0
        seen = seen | ~seen.any(axis=-1, keepdims=True)
        weights = (counts + 0.5) * seen
        table = weights / weights.sum(axis=-1, keepdims=True)
        self._probabilities: NDArray[np.float64] = table.reshape(-1, table.shape[-1])

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """float64 (h, w[, depth], K), each position sums to one."""
        return self._probabilities.reshape(*self.grid, -1).copy()

    @property
    def entropy_bits(self) -> float:
        """Mean code length of a sample, in bits for the whole grid."""
        possible = self._probabilities[self._probabilities > 0]
        return float(-(possible * np.log2(possible)).sum())

    def sample(
        self, n: int, seed: int, temperature: float = 1.0, *, first: int = 0
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Samples number `first` to `first + n - 1` of a seed.

        Sample i depends on (seed, i) and the temperature only, so a request may be cut in parts.
        Temperature 0 takes the most likely code everywhere. Returns tokens int32 (n, *grid) and
        the code length of each in bits (n,) under the table itself, whatever the temperature.

        Raises:
            InvalidParameter: n < 1, a seed outside 0 .. 2**64 - 1, a temperature that is negative
            or not finite.
        """
        if n < 1 or first < 0:
            raise InvalidParameter("n must be at least 1.")
        if not 0 <= seed < _TWO_POW_64:
            raise InvalidParameter("seed must be in 0 .. 2**64 - 1.")
        if not (math.isfinite(temperature) and temperature >= 0):
            raise InvalidParameter("temperature must be a finite number of at least 0.")
        num_positions = len(self._probabilities)
        draws = _uniform(seed, range(first, first + n), num_positions)
        cumulative = np.cumsum(self._tempered(temperature), axis=-1)
        cumulative /= cumulative[:, -1:]
        tokens = np.empty((n, num_positions), np.int32)
        for position, edges in enumerate(cumulative):
            # Right of equal edges, so that a code of probability 0 is never hit.
            tokens[:, position] = np.searchsorted(edges, draws[:, position], side="right")
        chosen = self._probabilities[np.arange(num_positions), tokens]
        return tokens.reshape(n, *self.grid), -np.log2(chosen).sum(axis=1)

    def _tempered(self, temperature: float) -> NDArray[np.float64]:
        table = self._probabilities
        if temperature == 0:
            return np.eye(table.shape[-1])[table.argmax(axis=-1)]
        # The largest weight becomes 1: small temperatures then cannot underflow all of them.
        return (table / table.max(axis=-1, keepdims=True)) ** (1 / temperature)


def _uniform(seed: int, samples: range, count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1), float64 (samples, count); row i comes from the counter key (seed, i).

    Taken from the raw 64 bits, which numpy promises never to change, not from a distribution.
    """
    # An array: numpy makes floats of a list with a number above 2**63, and seeds would collide.
    keys = [np.array([seed, index], dtype=np.uint64) for index in samples]
    rows = [np.random.Philox(key=key).random_raw(count) for key in keys]
    return (np.stack(rows) >> np.uint64(11)).astype(np.float64) * _UNIT
