"""Numbers that change while a model trains: a start, an end, and the part of training between."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

Shape = Literal["linear", "geometric"]
RampLike = float | dict[str, float | str]
"""What a configuration may give: a number, or a table with the fields of `Ramp`."""


@dataclass(frozen=True)
class Ramp:
    """`start` up to the share `begin` of training, `end` from `until` on, a ramp between.

    linear: equal steps. geometric: equal ratios, as Jang et al. 2017 anneal temperatures; needs
    start and end greater than 0. Raises ValueError for what is no finite number, for shares out of
    order and for ramps that do not exist.
    """

    start: float
    end: float
    begin: float = 0.0
    until: float = 1.0
    shape: Shape = "linear"

    def __post_init__(self) -> None:
        for name in ("start", "end", "begin", "until"):
            _check_number(getattr(self, name), f"{name} must be")
        if not 0.0 <= self.begin < self.until <= 1.0:
            raise ValueError(
                "begin and until are shares of training, 0 <= begin < until <= 1, "
                f"not {self.begin} and {self.until}"
            )
        if self.shape not in ("linear", "geometric"):
            raise ValueError(f"shape must be 'linear' or 'geometric', not {self.shape!r}")
        if self.shape == "geometric" and min(self.start, self.end) <= 0.0:
            raise ValueError("a geometric ramp goes from a start > 0 to an end > 0")

    def at(self, fraction: float) -> float:
        """The value when `fraction` in [0, 1] of the training lies behind."""
        done = min(max((fraction - self.begin) / (self.until - self.begin), 0.0), 1.0)
        if self.shape == "geometric":
            return self.start * (self.end / self.start) ** done
        return self.start + (self.end - self.start) * done

    @property
    def least(self) -> float:
        return min(self.start, self.end)

    @property
    def most(self) -> float:
        return max(self.start, self.end)


def as_ramp(value: RampLike | Ramp, name: str, default_shape: Shape = "linear") -> Ramp:
    """The ramp of a number (constant) or a table. Raises ValueError naming `name`."""
    if isinstance(value, Ramp):
        return value
    if not isinstance(value, Mapping):
        _check_number(value, f"{name} must be")
        return Ramp(value, value)
    table: dict[str, Any] = {"shape": default_shape, **value}
    try:
        return Ramp(**table)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


def _check_number(value: object, must_be: str) -> None:
    # A bool is an int to Python, and no weight or temperature to anybody.
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{must_be} a finite number, not {value!r}")
