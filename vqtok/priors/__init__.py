"""New token grids from a prior: tables, or a learned one in ONNX; one sampler for all."""

from vqtok.priors.choice import SamplingRule
from vqtok.priors.draw import Drawn, begin, checked_grid, draw_all, most_rows, result_of, stack
from vqtok.priors.prior import Prior
from vqtok.priors.reveal import Ask, Reveal
from vqtok.priors.table import TablePrior
from vqtok.priors.wish import SampleOptions, Wish, checked_wish

__all__ = [
    "Ask",
    "Drawn",
    "Prior",
    "Reveal",
    "SampleOptions",
    "SamplingRule",
    "TablePrior",
    "Wish",
    "begin",
    "checked_grid",
    "checked_wish",
    "draw_all",
    "most_rows",
    "result_of",
    "stack",
]
