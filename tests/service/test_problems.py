"""Errors become problems: every class has a status, and what to do is said."""

import orjson
import pytest

from service.problems import PROBLEM_MEDIA_TYPE, STATUSES, TITLES, problem_of, status_of
from vqtok.errors import Overloaded, TooLarge, VqtokError, error_classes

ABSTRACT = {"vqtok_error", "bundle_error", "invalid_input", "remote_error"}


@pytest.mark.parametrize("kind", [each for each in error_classes() if "vqtok" in each.__module__])
def test_every_error_has_a_status_of_its_own(kind: type[VqtokError]) -> None:
    assert kind in STATUSES
    assert kind.code in TITLES or kind.code in ABSTRACT
    response = problem_of(kind("A detail."))
    assert response.status_code == status_of(kind("A detail.")) == STATUSES[kind]
    assert response.media_type == PROBLEM_MEDIA_TYPE
    document = orjson.loads(response.body)
    assert document["code"] == kind.code
    assert document["detail"] == "A detail."
    assert document["status"] == response.status_code


def test_an_error_of_a_later_class_takes_the_status_of_its_base() -> None:
    class TooWide(TooLarge):
        code = "too_wide"

    assert status_of(TooWide("x")) == 413


@pytest.mark.parametrize(
    ("seconds", "whole", "milliseconds"),
    [
        (0.0, "1", "1"),
        (0.0004, "1", "1"),
        (0.25, "1", "250"),
        (1.0, "1", "1000"),
        (1.2, "2", "1200"),
    ],
)
def test_a_refusal_says_when_to_try_again(seconds: float, whole: str, milliseconds: str) -> None:
    headers = problem_of(Overloaded("Full.", seconds)).headers
    assert headers["Retry-After"] == whole
    assert headers["Vqtok-Retry-After-Ms"] == milliseconds


def test_too_large_names_the_limit_and_its_setting() -> None:
    body = problem_of(TooLarge("Too large.", limit=4, setting="max_items")).body
    assert orjson.loads(body) | {"limit": 4, "setting": "max_items"} == orjson.loads(body)
