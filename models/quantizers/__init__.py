"""The quantizers by name. An added one is a file beside this and a line in the table."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from models.quantizers.base import Posterior, Quantized, Quantizer
from models.quantizers.em import EmQuantizer
from models.quantizers.fsq import FiniteScalarQuantizer
from models.quantizers.gmvq import GaussianMixtureQuantizer
from models.quantizers.gumbel import GumbelQuantizer
from models.quantizers.ibq import IndexBackpropagationQuantizer
from models.quantizers.residual import ResidualQuantizer
from models.quantizers.simvq import LinearMapQuantizer
from models.quantizers.sqvae import StochasticQuantizer
from models.quantizers.vq import VectorQuantizer
from models.quantizers.vq_ema import EmaVectorQuantizer

QUANTIZERS: dict[str, Callable[..., Quantizer]] = {
    "vq": VectorQuantizer,
    "vq_ema": EmaVectorQuantizer,
    "gmvq": GaussianMixtureQuantizer,
    "sqvae": StochasticQuantizer,
    "gumbel": GumbelQuantizer,
    "em": EmQuantizer,
    "fsq": FiniteScalarQuantizer,
    "ibq": IndexBackpropagationQuantizer,
    "simvq": LinearMapQuantizer,
    "rvq": ResidualQuantizer,
}


def build_quantizer(method: str, options: Mapping[str, Any]) -> Quantizer:
    """The quantizer named `method`.

    Raises ValueError for a method or an option that is unknown, missing or out of range.
    """
    if method not in QUANTIZERS:
        raise ValueError(f"no quantizer is called {method!r}; there are {', '.join(QUANTIZERS)}")
    signature = inspect.signature(QUANTIZERS[method])
    unknown = sorted(set(options) - set(signature.parameters))
    if unknown:
        takes = ", ".join(signature.parameters)
        raise ValueError(f"{method} has no option {unknown[0]!r}; it takes {takes}")
    try:
        signature.bind(**options)
    except TypeError as error:
        raise ValueError(f"{method}: {error}") from error
    return QUANTIZERS[method](**options)


__all__ = ["QUANTIZERS", "Posterior", "Quantized", "Quantizer", "build_quantizer"]
