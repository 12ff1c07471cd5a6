"""The tree of errors, and how it crosses the wire."""

import pytest

from vqtok import errors
from vqtok.errors import RemoteError, VqtokError, error_classes, error_from_problem

# Other tests may have derived classes of their own.
OURS = [each for each in error_classes() if each.__module__ == errors.__name__]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [each.code for each in OURS]
    assert len(codes) == len(set(codes))


def test_the_drawn_tree_names_every_class() -> None:
    drawing = (errors.__doc__ or "").split("```")[1]
    drawn = [line.replace("│", " ").lstrip("├└─ ").split()[0] for line in drawing.split("\n")[1:-1]]
    assert sorted(drawn) == sorted(each.__name__ for each in OURS)


@pytest.mark.parametrize("cls", OURS, ids=lambda cls: cls.__name__)
def test_an_error_survives_the_wire(cls: type[VqtokError]) -> None:
    back = error_from_problem(cls.code, "what was wrong")
    assert type(back) is cls
    assert back.detail == str(back) == "what was wrong"


def test_a_code_of_a_newer_service_becomes_a_remote_error_that_names_it() -> None:
    error = error_from_problem("from_the_future", "something new")
    assert isinstance(error, RemoteError)
    assert error.detail == "from_the_future: something new"


def test_no_error_knows_an_http_status() -> None:
    for cls in OURS:
        assert not hasattr(cls, "status") or cls is RemoteError
