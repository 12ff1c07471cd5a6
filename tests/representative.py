"""Which cases of many are run every time; the others are marked slow."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def few_of(cases: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """All cases as parameters, those that are not `quick` for `make test-slow` only; a tuple has
    the values of several parameters.

    Raises:
        AssertionError: something is quick that is no case.
    """
    known = list(cases)
    assert all(each in known for each in quick)
    return [each if each in quick else _slow(each) for each in known]


def _slow(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
