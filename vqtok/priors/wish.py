"""What a sample is to be."""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, TypedDict, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidParameter
from vqtok.priors.choice import SamplingRule
from vqtok.priors.uniforms import LARGEST_SEED

LARGEST_NUMBER = 2**64 - 1


@dataclass(frozen=True, eq=False)
class Wish:
    """Samples number `first` to `first + n - 1` of a seed.

    label: a class's number or name, None for no class. passes: how many calls of the prior, its own
    schedule when None. grid: (h, w) or (h, w, depth), the native grid when None. known: tokens that
    stay as they are, with `mask`, true where they are known; both of the shape of the grid.

    Raises:
        InvalidParameter: a number outside its range; a mask without tokens, or tokens without one.
    """

    n: int = 1
    seed: int = 0
    first: int = 0
    rule: SamplingRule = field(default_factory=SamplingRule)
    label: int | str | None = None
    passes: int | None = None
    grid: tuple[int, ...] | None = None
    known: NDArray[Any] | None = None
    mask: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.n <= LARGEST_NUMBER or self.first < 0:
            raise InvalidParameter("n must be at least 1.")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InvalidParameter("seed must be in 0 .. 2**64 - 1.")
        if self.passes is not None and self.passes < 1:
            raise InvalidParameter("passes must be at least 1.")
        if self.rule.cfg_scale > 0 and self.label is None:
            raise InvalidParameter("cfg_scale needs a label to guide to.")
        if (self.known is None) != (self.mask is None):
            raise InvalidParameter(
                "Known tokens need a mask that says which of them are known, and a mask needs them."
            )


class SampleOptions(TypedDict, total=False):
    """What may be asked of samples, beside their number; as `Wish` and `SamplingRule` say."""

    seed: int
    temperature: float
    top_k: int
    top_p: float
    cfg_scale: float
    label: int | str | None
    passes: int | None
    grid: tuple[int, ...] | None
    known: NDArray[Any] | None
    mask: NDArray[Any] | None


RULES = ("temperature", "top_k", "top_p", "cfg_scale")
MAY_BE_NONE = ("label", "passes", "grid", "known", "mask")


def checked_wish(n: Any = 1, **options: Unpack[SampleOptions]) -> Wish:
    """A wish of whatever numbers a caller has, numpy's among them.

    Raises:
        InvalidParameter: as `Wish`; something that is no number, an option of another name.
    """
    unknown = sorted(set(options) - set(SampleOptions.__annotations__))
    if unknown:
        names = ", ".join(SampleOptions.__annotations__)
        raise InvalidParameter(f"Samples have no option {unknown[0]!r}, only {names}.")
    checked: dict[str, Any] = {
        name: _CHECKED[name](value, name)
        for name, value in options.items()
        if not (value is None and name in MAY_BE_NONE)
    }
    rule = SamplingRule(**{name: checked.pop(name) for name in RULES if name in checked})
    return Wish(n=whole(n, "n"), rule=rule, **checked)


def whole(value: Any, name: str) -> int:
    """A whole number of any type. Raises InvalidParameter for anything else."""
    try:
        return operator.index(value)
    except TypeError as error:
        raise InvalidParameter(f"{name} must be a whole number, not {value!r:.40}.") from error


def _real(value: Any, name: str) -> float:
    """A number of any type; its text is none. What is no number is out of every range."""
    try:
        return float(value) if isinstance(value, Real) else math.nan
    except OverflowError:
        return math.inf


def _label(value: Any, name: str) -> int | str:
    return value if isinstance(value, str) else whole(value, name)


def _sides(value: Any, name: str) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        raise InvalidParameter(f"{name} must be (h, w) or (h, w, depth), not {value!r:.40}.")
    return tuple(whole(side, f"A side of {name}") for side in cast("Sequence[Any]", value))


def _array(value: Any, name: str) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise InvalidParameter(f"{name} must be rows of equal length.") from error


_CHECKED: dict[str, Callable[[Any, str], Any]] = {
    "seed": whole,
    "temperature": _real,
    "top_k": whole,
    "top_p": _real,
    "cfg_scale": _real,
    "label": _label,
    "passes": whole,
    "grid": _sides,
    "known": _array,
    "mask": _array,
}
