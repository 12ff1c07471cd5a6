"""What the sampler knows of a prior."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Prior(Protocol):
    """p(tokens | label) over grids of the native size, revealed group by group:

    log p(x) = Σ_g Σ_{i in g} log p(x_i | x of the groups before g, label)

    Positions are in raster order, depth last; N is their number. `name` says which kind it is.
    `groups` int64 (N,) numbers the group of each, and `order` (N,) lists them one by one as they
    are revealed. `any_order`: whether any tokens may be known
    beforehand; else none may. `labels` names the classes; number len(labels) is no label.
    """

    name: str
    grid: tuple[int, ...]
    codebook_size: int
    groups: NDArray[np.int64]
    order: NDArray[np.int64]
    any_order: bool
    labels: tuple[str, ...]

    def logits(
        self,
        tokens: NDArray[np.int32],
        labels: NDArray[np.int32],
        positions: NDArray[np.int32],
    ) -> NDArray[np.floating]:
        """Unnormalised log-probabilities (n, P, K) at `positions` (n, P), of tokens (n, N) that are
        K where unknown, and labels (n,).

        Raises:
            ModelFailure: the runtime failed.
        """
        ...
