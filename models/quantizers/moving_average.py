"""Codes that are moving averages of the vectors assigned to them, hard or soft."""

from typing import NamedTuple

import torch
from torch import Tensor

from models.collectives import global_sum


class Averages(NamedTuple):
    """van den Oord et al. 2017, appendix A.1: how much came to each code, and what, in sum.

    counts N (K,), sums m (K, D). A soft assignment gives fractions to many codes (Roy et al. 2018);
    a hard one is the case of ones and zeros.
    """

    counts: Tensor
    sums: Tensor

    def of_all_processes(self) -> "Averages":
        """The sums over the processes' shares of a batch."""
        return Averages(global_sum(self.counts), global_sum(self.sums))

    @torch.no_grad()
    def move_(self, batch: "Averages", decay: float) -> None:
        """N <- decay N + (1 - decay) N', m likewise, in place."""
        for average, new in zip(self, batch, strict=True):
            average.lerp_(new.to(average), 1.0 - decay)

    def codes(self, epsilon: float = 1e-5) -> Tensor:
        """(K, D): m / N, the counts smoothed so that a code never chosen divides by no zero."""
        total = self.counts.sum()
        smoothed = (self.counts + epsilon) / (total + len(self.counts) * epsilon) * total
        return self.sums / smoothed[:, None]
