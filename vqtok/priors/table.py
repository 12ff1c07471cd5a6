"""The prior of a bundle without a learned one: how often each code stands at each position.

It is the simplest prior that can be measured: every position on its own, nothing known of its
neighbours. Its samples show which codes stand where, not what a picture looks like.
"""

import numpy as np
from numpy.typing import NDArray


class TablePrior:
    """p(code | position) from counts of training tokens.

    One half is added to every count, but only of codes that training used at all (`usage`): a code
    that the decoder never saw is never drawn. Without any count all codes are equally likely.

    `position_counts` is (h, w[, depth], K) and `usage` (K,) or (depth, K); it is summed from the
    counts when left out.
    """

    name = "position-table"
    any_order = True
    labels: tuple[str, ...] = ()

    def __init__(
        self, position_counts: NDArray[np.integer], usage: NDArray[np.integer] | None = None
    ) -> None:
        self.grid: tuple[int, ...] = position_counts.shape[:-1]
        self.codebook_size = position_counts.shape[-1]
        self.groups: NDArray[np.int64] = np.zeros(int(np.prod(self.grid)), np.int64)
        self.order: NDArray[np.int64] = np.arange(len(self.groups))
        counts = position_counts.astype(np.float64)
        seen = counts.sum(axis=(0, 1)) > 0 if usage is None else np.asarray(usage) > 0
        seen = seen | ~seen.any(axis=-1, keepdims=True)
        weights = (counts + 0.5) * seen
        table = weights / weights.sum(axis=-1, keepdims=True)
        self._probabilities: NDArray[np.float64] = table.reshape(-1, table.shape[-1])
        with np.errstate(divide="ignore"):
            self.log_table: NDArray[np.float64] = np.log(self._probabilities)
        """float64 (N, K), -inf where a code is never drawn."""

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """float64 (h, w[, depth], K), each position sums to one."""
        return self._probabilities.reshape(*self.grid, -1).copy()

    @property
    def entropy_bits(self) -> float:
        """Mean code length of a sample, in bits for the whole grid."""
        possible = self._probabilities[self._probabilities > 0]
        return float(-(possible * np.log2(possible)).sum())

    def logits(
        self,
        tokens: NDArray[np.int32],
        labels: NDArray[np.int32],
        positions: NDArray[np.int32],
    ) -> NDArray[np.float64]:
        """The table's rows (n, P, K); tokens and labels are looked over."""
        return self.log_table[positions]
