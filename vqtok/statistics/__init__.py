"""Statistics of a codebook: how its codes are used, how far apart they lie, and whether the images
of today are like those of training. Formulas, units and what to do about them: docs/statistics.md.

The number of tokens behind a figure stands beside it, because perplexity of few tokens is far too
low (64 tokens cannot show more than 64 codes).
"""

from vqtok.statistics.alarm import WINDOWS_IN_A_ROW, AlarmState
from vqtok.statistics.codebook import (
    CodebookDistances,
    EffectiveDimension,
    codebook_distances,
    effective_dimension,
)
from vqtok.statistics.divergence import Divergence, ReferenceUsage
from vqtok.statistics.drift_null import DriftNull, NullAt
from vqtok.statistics.live import WINDOWS, DriftReference, LiveWindows, WindowState
from vqtok.statistics.resampling import resample_null
from vqtok.statistics.usage import UsageSummary, summarise
from vqtok.statistics.values import ValueHistogram, ValueSummary
from vqtok.statistics.window import Shape, Window, measures_of

__all__ = [
    "WINDOWS",
    "WINDOWS_IN_A_ROW",
    "AlarmState",
    "CodebookDistances",
    "Divergence",
    "DriftNull",
    "DriftReference",
    "EffectiveDimension",
    "LiveWindows",
    "NullAt",
    "ReferenceUsage",
    "Shape",
    "UsageSummary",
    "ValueHistogram",
    "ValueSummary",
    "Window",
    "WindowState",
    "codebook_distances",
    "effective_dimension",
    "measures_of",
    "resample_null",
    "summarise",
]
