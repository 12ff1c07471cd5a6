"""A prior whose joint distribution is written down, so that all that is drawn can be counted."""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray


class JointPrior:
    """A joint over all grids of 2 x 2 and 3 codes for each of 2 labels and for none of them.

    Its conditionals are exact for any known tokens: sums of the joint.
    """

    name = "joint"
    grid: tuple[int, ...] = (2, 2)
    codebook_size = 3
    labels: tuple[str, ...] = ("one", "two")

    def __init__(self, groups: tuple[int, ...] = (0, 1, 2, 3), *, any_order: bool = True) -> None:
        self.groups = np.array(groups, np.int64)
        self.order = np.argsort(self.groups, kind="stable")
        self.any_order = any_order
        rng = np.random.default_rng(11)
        weights = rng.gamma(0.6, size=(3, 81)) + 1e-3
        self.joint: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
        self.grids = np.array(list(itertools.product(range(3), repeat=4)))
        self.batches: list[int] = []

    def logits(
        self,
        tokens: NDArray[np.int32],
        labels: NDArray[np.int32],
        positions: NDArray[np.int32],
    ) -> NDArray[np.float32]:
        self.batches.append(len(tokens))
        rows = zip(tokens, labels, positions, strict=True)
        return np.stack([self._row(*row) for row in rows]).astype(np.float32)

    def _row(
        self, tokens: NDArray[np.int32], label: int, positions: NDArray[Any]
    ) -> NDArray[np.float64]:
        fits = ((self.grids == tokens) | (tokens == 3)).all(axis=1)
        p = self.joint[label] * fits
        return np.log([[p[self.grids[:, i] == code].sum() for code in range(3)] for i in positions])

    def log_prob(self, grid: NDArray[np.integer], label: int) -> float:
        """log p of a grid (4,), as the groups factorise it."""
        total = 0.0
        for group in range(int(self.groups.max()) + 1):
            known = np.where(self.groups < group, grid, 3)
            positions = np.flatnonzero(self.groups == group)
            logits = self._row(known, label, positions)
            p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            total += float(np.log(p[np.arange(len(positions)), grid[positions]]).sum())
        return total
