"""The network of a run, as its settings say and as its first step finds it."""

import torch

from models.priors import (
    BOUNDED,
    DiffusionPrior,
    Prior,
    TokenShape,
    build_bounded,
    build_prior,
)
from training.priors.settings import PriorSettings
from training.priors.sigma import mixture_sigma
from training.priors.tokens import TokenSplits, counts_of


def built(settings: PriorSettings, shape: TokenShape) -> Prior | DiffusionPrior:
    """The prior of the settings. Raises ValueError for a kind or an option that is unknown."""
    kind, options = settings.prior.kind, settings.prior.options
    if kind in BOUNDED:
        return build_bounded(kind, shape, options)
    return build_prior(kind, shape, options)


def begun(settings: PriorSettings, tokens: TokenSplits) -> Prior | DiffusionPrior:
    """The prior that training starts from. Raises ValueError as `built`."""
    prior, counts = built(settings, tokens.shape), counts_of(tokens)
    codes = None if tokens.codes is None else torch.from_numpy(tokens.codes)
    if isinstance(prior, Prior):
        prior.begin(counts, codes)
    else:
        assert codes is not None, "it refuses shapes whose levels have tables of their own"
        prior.begin(counts, codes, mixture_sigma(settings))
    return prior
