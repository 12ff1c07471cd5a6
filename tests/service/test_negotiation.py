"""Accept: quality values, wildcards, and a refusal that names the choices."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.negotiation import choose
from service.pictures import json_is_liked
from vqtok.errors import NotAcceptable

OFFERS = ("application/json", "application/x-npy", "image/png")


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/x-npy", "application/x-npy"),
        ("Application/X-NPY", "application/x-npy"),
        ("application/json;q=0.1, application/x-npy;q=0.2", "application/x-npy"),
        ("application/json;q=0, */*", "application/x-npy"),
        ("image/*", "image/png"),
        ("image/png;q=0.5, image/*;q=0.9, application/json;q=0.6", "application/json"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/x-npy; profile=1; q=1, */*;q=0.5", "application/x-npy"),
        ("application/x-npy;q=high, application/json;q=0.5", "application/json"),
    ],
)
def test_the_best_liked_offer_is_chosen(header: str | None, chosen: str) -> None:
    assert choose(header, OFFERS) == chosen


@pytest.mark.parametrize("header", ["text/html", "application/json;q=0", "image/gif", "nonsense"])
def test_a_refusal_names_every_offer(header: str) -> None:
    with pytest.raises(NotAcceptable) as caught:
        choose(header, OFFERS)
    assert all(offer in caught.value.detail for offer in OFFERS)


def test_anything_does_not_count_where_a_format_must_be_named() -> None:
    assert choose("application/x-npy, */*", OFFERS, anything=False) == "application/x-npy"
    with pytest.raises(NotAcceptable):
        choose("*/*", OFFERS, anything=False)
    with pytest.raises(NotAcceptable):
        choose(None, OFFERS, anything=False)


@given(st.text(max_size=60))
def test_no_header_breaks_it(header: str) -> None:
    with contextlib.suppress(NotAcceptable):
        assert choose(header, OFFERS) in OFFERS


@pytest.mark.parametrize(
    ("header", "is_liked"),
    [
        (None, True),
        ("image/png, application/*;q=0.1", True),
        ("*/*;q=0, application/json", True),
        ("application/json;q=0, */*", False),
        ("application/*;q=0, */*", False),
        ("image/png", False),
    ],
)
def test_json_is_liked_as_its_most_precise_range_says(header: str | None, is_liked: bool) -> None:
    assert json_is_liked(header) == is_liked
