"""Small networks are slower on two threads than on one, the more so beside other tests."""

from collections.abc import Iterator

import pytest

from tests.training.tiny import one_thread


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield
