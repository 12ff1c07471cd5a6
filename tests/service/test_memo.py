"""What is remembered of requests' heads, and for how long."""

import pytest

from service.memo import LONGEST, MOST, Memo


def test_what_was_made_is_made_once_for_equal_texts_and_owner() -> None:
    memo = Memo()
    owner, other = object(), object()
    first = memo.get(owner, (b"a", None), object)
    assert memo.get(owner, (b"a", None), object) is first
    assert memo.get(owner, (None, b"a"), object) is not first
    assert memo.get(other, (b"a", None), object) is not first


def test_a_refusal_is_not_remembered() -> None:
    memo = Memo()

    def refuse() -> object:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        memo.get(None, (b"a",), refuse)
    assert memo.get(None, (b"a",), lambda: 7) == 7


def test_its_memory_is_bounded() -> None:
    memo = Memo()
    long = b"a" * (LONGEST + 1)
    assert memo.get(None, (long,), object) is not memo.get(None, (long,), object)
    for number in range(10 * MOST):
        memo.get(None, (str(number).encode(),), object)
    assert len(memo._known) <= MOST
