"""The priors by name. An added one is a file beside this and a line in the table."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from models.priors.autoregressive import AutoregressivePrior
from models.priors.base import Prior, TokenModel, TokenShape
from models.priors.diffusion import DiffusionPrior
from models.priors.masked import MaskedPrior
from models.priors.tables import MarginalPrior, PositionPrior, UniformPrior

M = TypeVar("M", bound=TokenModel)

PRIORS: dict[str, Callable[..., Prior]] = {
    "uniform": UniformPrior,
    "marginal": MarginalPrior,
    "position": PositionPrior,
    "masked": MaskedPrior,
    "autoregressive": AutoregressivePrior,
}
TABLES = frozenset({"uniform", "marginal", "position"})
"""Those that count tokens and have nothing to learn beyond that."""
BOUNDED: dict[str, Callable[..., DiffusionPrior]] = {"diffusion": DiffusionPrior}
"""Those whose bits have no closed form, only a bound: they reveal nothing group by group."""


def build_prior(name: str, shape: TokenShape, options: Mapping[str, Any]) -> Prior:
    """The prior called `name` over token grids of `shape`.

    Raises ValueError for a name or an option that is unknown or out of range.
    """
    return _built(PRIORS, name, shape, options)


def build_bounded(name: str, shape: TokenShape, options: Mapping[str, Any]) -> DiffusionPrior:
    """As `build_prior`, of `BOUNDED`."""
    return _built(BOUNDED, name, shape, options)


def _built(
    table: Mapping[str, Callable[..., M]], name: str, shape: TokenShape, options: Mapping[str, Any]
) -> M:
    if name not in table:
        names = ", ".join([*PRIORS, *BOUNDED])
        raise ValueError(f"no prior is called {name!r}; there are {names}")
    known = [each for each in inspect.signature(table[name]).parameters if each != "shape"]
    unknown = sorted(set(options) - set(known))
    if unknown:
        takes = ", ".join(known) or "none"
        raise ValueError(f"{name} has no option {unknown[0]!r}; it takes {takes}")
    return table[name](shape, **options)


__all__ = [
    "BOUNDED",
    "PRIORS",
    "TABLES",
    "DiffusionPrior",
    "Prior",
    "TokenModel",
    "TokenShape",
    "build_bounded",
    "build_prior",
]
