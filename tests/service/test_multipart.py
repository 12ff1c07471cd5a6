"""Multipart bodies: parts come out as they went in, and broken ones are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.multipart import PartsReader, parse_multipart
from vqtok.errors import MalformedBody

TYPE = "multipart/form-data; boundary=x0x"


def _body(*parts: bytes, name: str = "images") -> bytes:
    head = f'--x0x\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n\r\n'.encode()
    return b"".join(head + part + b"\r\n" for part in parts) + b"--x0x--\r\n"


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5))
def test_parts_come_out_as_they_went_in(parts: list[bytes]) -> None:
    if any(b"\r\n--x0x" in b"\r\n" + part + b"\r\n" for part in parts):
        return
    assert parse_multipart(TYPE, _body(*parts), "images") == parts


@pytest.mark.parametrize(
    ("content_type", "body", "words"),
    [
        ("multipart/form-data", _body(b"a"), "boundary"),
        (TYPE, _body(b"a", name="image"), "'image'"),
        (TYPE, _body(), "no part"),
        (TYPE, b"", "cut short"),
        (TYPE, _body(b"a")[:-6], "cut short"),
        (TYPE, b"hello", "cannot be read"),
        (TYPE, b"--x0x\r\nContent-Length: 4\r\n\r\nabcd\r\n--x0x--\r\n", "''"),
    ],
)
def test_a_broken_body_is_refused(content_type: str, body: bytes, words: str) -> None:
    with pytest.raises(MalformedBody) as caught:
        parse_multipart(content_type, body, "images")
    assert words in caught.value.detail


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        parse_multipart(TYPE, b"--x0x\r\n" + body, "images")


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5), st.integers(1, 70))
def test_pieces_of_any_size_give_each_part_when_it_is_complete(
    parts: list[bytes], size: int
) -> None:
    if any(b"\r\n--x0x" in b"\r\n" + part + b"\r\n" for part in parts):
        return
    body = _body(*parts)
    reader = PartsReader(TYPE, "images")
    found: list[bytes] = []
    for start in range(0, len(body), size):
        found += reader.feed(body[start : start + size])
        assert len(found) <= reader.num_begun <= len(found) + 1
    reader.end()
    assert found == parts
