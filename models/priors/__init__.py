"""The priors by name. An added one is a file beside this and a line in the table."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from models.priors.autoregressive import AutoregressivePrior
from models.priors.base import Prior, TokenShape
from models.priors.masked import MaskedPrior
from models.priors.tables import MarginalPrior, PositionPrior, UniformPrior

PRIORS: dict[str, Callable[..., Prior]] = {
    "uniform": UniformPrior,
    "marginal": MarginalPrior,
    "position": PositionPrior,
    "masked": MaskedPrior,
    "autoregressive": AutoregressivePrior,
}
TABLES = frozenset({"uniform", "marginal", "position"})
"""Those that count tokens and have nothing to learn beyond that."""


def build_prior(name: str, shape: TokenShape, options: Mapping[str, Any]) -> Prior:
    """The prior called `name` over token grids of `shape`.

    Raises ValueError for a name or an option that is unknown or out of range.
    """
    if name not in PRIORS:
        raise ValueError(f"no prior is called {name!r}; there are {', '.join(PRIORS)}")
    known = [each for each in inspect.signature(PRIORS[name]).parameters if each != "shape"]
    unknown = sorted(set(options) - set(known))
    if unknown:
        takes = ", ".join(known) or "none"
        raise ValueError(f"{name} has no option {unknown[0]!r}; it takes {takes}")
    return PRIORS[name](shape, **options)


__all__ = ["PRIORS", "TABLES", "Prior", "TokenShape", "build_prior"]
