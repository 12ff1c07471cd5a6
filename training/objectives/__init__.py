"""The objectives by name. An added one is a file beside this and a line in the table."""

import inspect
from collections.abc import Callable, Mapping

from models.ramp import RampLike
from training.objectives.albo import Albo
from training.objectives.base import Loss, Objective
from training.objectives.bottleneck import Vdib, Vib
from training.objectives.gumbel import GumbelVqVae
from training.objectives.ibq import Ibq
from training.objectives.sqvae import SqVae
from training.objectives.vqvae import VqVae

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "vqvae": VqVae,
    "albo": Albo,
    "vib": Vib,
    "vdib": Vdib,
    "sqvae": SqVae,
    "gumbel": GumbelVqVae,
    "ibq": Ibq,
}


def build_objective(name: str, options: Mapping[str, RampLike | str | bool]) -> Objective:
    """Raises ValueError naming what is known when the name or an option is not."""
    if name not in OBJECTIVES:
        raise ValueError(f"no objective is called {name!r}; there are {', '.join(OBJECTIVES)}")
    try:
        inspect.signature(OBJECTIVES[name]).bind(**options)
        return OBJECTIVES[name](**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"objective {name}: {error}") from error


__all__ = ["OBJECTIVES", "Loss", "Objective", "build_objective"]
