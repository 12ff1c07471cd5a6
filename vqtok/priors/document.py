"""A wish as JSON: the body of `POST /v1/sample`."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidParameter
from vqtok.priors.wish import Wish, checked_wish
from vqtok.wire.json_reading import MAX_RANK, integers

NUMBERS = ("n", "seed", "temperature", "top_k", "top_p", "cfg_scale", "passes")
KEYS = (*NUMBERS, "label", "grid", "tokens", "mask")


def sample_document(wish: Wish) -> dict[str, Any]:
    """The JSON of a wish whose first sample is number 0; what it leaves open is left out."""
    rule = wish.rule
    document: dict[str, Any] = {
        "n": wish.n,
        "seed": wish.seed,
        "temperature": rule.temperature,
        "top_k": rule.top_k,
        "top_p": rule.top_p,
        "cfg_scale": rule.cfg_scale,
        "label": wish.label,
        "passes": wish.passes,
        "grid": wish.grid,
        "tokens": None if wish.known is None else np.ascontiguousarray(wish.known),
        "mask": None if wish.mask is None else np.ascontiguousarray(wish.mask.astype(bool)),
    }
    return {name: value for name, value in document.items() if value is not None}


def wish_of(document: Mapping[str, Any], seed: int) -> Wish:
    """The wish of a JSON object whose keys are among `KEYS`; `seed` where it has none.

    Raises:
        InvalidParameter: a value of another type or out of range. InvalidTokens: known tokens that
        are no rows of integers.
    """
    for name in (*NUMBERS, "label"):
        # In Python true is a number, and in JSON it is none.
        if isinstance(document.get(name), bool):
            raise InvalidParameter(f"{name} is a number, not true or false.")
    options: dict[str, Any] = {"seed": seed, **document}
    known, mask = options.pop("tokens", None), options.pop("mask", None)
    return checked_wish(
        **options,
        known=None if known is None else integers(known, "tokens"),
        mask=None if mask is None else _mask(mask),
    )


def _mask(value: Any) -> NDArray[np.bool_]:
    flat = _flat(value)
    if not flat or {type(each) for each in flat} != {bool}:
        raise InvalidParameter("mask is rows of true and false, one for each position of the grid.")
    try:
        return np.array(value, bool)
    except ValueError as error:
        raise InvalidParameter("mask must be rows of equal length.") from error


def _flat(value: Any) -> list[Any]:
    """The values in nested lists, as deep as a grid has axes."""
    flat = cast("list[Any]", value) if isinstance(value, list) else []
    for _ in range(MAX_RANK - 1):
        flat = [
            inner
            for each in flat
            for inner in (cast("list[Any]", each) if isinstance(each, list) else [each])
        ]
    return flat
