"""npy: NumPy's own files are read, and nothing else is."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vqtok.errors import InvalidParameter, InvalidTokens, MalformedBody, NotAcceptable
from vqtok.tokens import ImageTokens, TokenBatch
from vqtok.wire import DecodeOptions, EncodeOptions, npy_header
from vqtok.wire.npy_format import (
    common_size,
    decode_images,
    decode_tokens,
    encode_images,
    encode_tokens,
    read_array,
    write_array,
)

DTYPES = ["uint8", "int8", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8", "bool"]


def saved(array: NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    """The array as NumPy writes it."""
    target = io.BytesIO()
    np.lib.format.write_array(target, array, version, allow_pickle=True)
    return target.getvalue()


def with_header(text: str, data: bytes = b"") -> bytes:
    """A file with a header of one's own."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


def stating(descr: str, shape: str) -> str:
    """The text of a header."""
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}"


@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 4), max_size=5),
    st.sampled_from([(1, 0), (2, 0), (3, 0)]),
)
def test_what_numpy_writes_is_read_without_a_copy(
    dtype: str, shape: list[int], version: tuple[int, int]
) -> None:
    array = np.ones(shape, dtype)
    body = saved(array, version)
    back = read_array(body)
    np.testing.assert_array_equal(back, array, strict=True)
    assert not back.flags.owndata
    assert not back.flags.writeable


@given(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=5))
def test_what_is_written_numpy_reads(dtype: str, shape: list[int]) -> None:
    array = np.ones(shape, dtype)
    np.testing.assert_array_equal(np.load(io.BytesIO(write_array(array))), array, strict=True)


def test_any_order_and_byte_order_is_written_as_the_one_that_is_read() -> None:
    array = np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3))
    np.testing.assert_array_equal(read_array(write_array(array)), array)


def test_the_header_is_known_as_soon_as_it_has_arrived() -> None:
    body = saved(np.zeros((2, 3), "<u2"))
    offset = len(body) - 12
    assert all(npy_header(body[:end]) is None for end in range(offset))
    header = npy_header(body[:offset])
    assert header is not None
    assert (header.dtype, header.shape, header.data_offset) == (np.dtype("<u2"), (2, 3), offset)
    assert header.file_bytes == len(body)


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<u2', 'fortran_order': False, 'shape': (2,), }",
        "{'descr':'<u2','fortran_order':False,'shape':(2,)}\n",
        '{"shape": (2,), "descr": "<u2", "fortran_order": False}',
        "{'descr': '<u2', 'fortran_order': False, 'shape': (2L,), }",
    ],
)
def test_headers_of_other_writers_are_read(text: str) -> None:
    assert read_array(with_header(text, b"\1\0\2\0")).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "cut short"),
        (b"\x93NUM", "cut short"),
        (b"PK\3\4", "not an npy file"),
        (b"\x93NUMPY\x04\x00\0\0", "version 4.0"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "4294967295 bytes"),
        (saved(np.zeros(3, ">i2")), "big-endian"),
        (saved(np.zeros((2, 3), order="F")), "Fortran order"),
        (saved(np.array([None])), "no plain numbers"),
        (saved(np.array(["text"])), "no plain numbers"),
        (saved(np.zeros(1, "datetime64[s]")), "a dtype"),
        (saved(np.zeros(1, [("a", "<i4")])), "a dtype"),
        (saved(np.zeros(3, np.uint8)) + b"\0", "arrived"),
        (saved(np.zeros(3, np.uint8))[:-1], "arrived"),
        (with_header(stating("<u3", "(2,)")), "unknown dtype"),
        (with_header(stating("<u2", "(2)")), "no shape"),
        (with_header(stating("<u2", "(2 3,)")), "no shape"),
        (with_header(stating("<u2", "(" + "1," * 9 + ")")), "no shape"),
        (with_header(stating("<u2", "(-1,)")), "of plain numbers"),
        (with_header(stating("<u2", "(999999999999, 999999999999)")), "arrived"),
        (with_header(stating("<u2", "(), 'x': 1")), "more than"),
        (with_header(stating("<u2", "(), 'shape': (2,)"), b"\0\0"), "more than"),
        (with_header(stating("<u2", "(), 'descr': '<u4'"), b"\0\0"), "more than"),
        (with_header(stating("<u2", "(), 'fortran_order': True"), b"\0\0"), "more than"),
        (with_header("{'descr': '<u2', 'fortran_order': False}"), "does not state"),
        (with_header("(" * 9_000), "does not state"),
        (with_header("{'shape': (" + "1" * 9_000), "does not state"),
        (with_header("__import__('os').abort()"), "does not state"),
    ],
)
def test_everything_else_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(MalformedBody, match=words):
        read_array(body)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "bool"])
def test_tokens_that_are_no_integers_are_refused(dtype: str) -> None:
    with pytest.raises(InvalidTokens, match="must be integers"):
        decode_tokens(saved(np.zeros((1, 2, 2), dtype)))


@pytest.mark.parametrize("shape", [(), (4,), (2, 4), (1, 1, 2, 2, 1), (0, 2, 2), (2, 0, 2)])
def test_tokens_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidTokens, match="shape"):
        decode_tokens(saved(np.zeros(shape, np.uint16)))


@pytest.mark.parametrize("grid", [(2, 3), (3, 2, 1), (1, 2, 3)])
def test_flat_tokens_take_their_grid_from_beside(grid: tuple[int, ...]) -> None:
    tokens = np.arange(12, dtype=np.int32).reshape(2, 6)
    batch = decode_tokens(saved(tokens), DecodeOptions(grid=grid, size=(8, 9)))
    assert [item.grid for item in batch.images] == [grid, grid]
    assert [item.size for item in batch.images] == [(8, 9), (8, 9)]
    np.testing.assert_array_equal(batch.images[1].tokens.ravel(), tokens[1])


def test_flat_tokens_that_do_not_fill_their_grid_are_refused() -> None:
    with pytest.raises(InvalidTokens, match="do not fill"):
        decode_tokens(saved(np.zeros((2, 6), np.uint16)), DecodeOptions(grid=(2, 2)))


def test_tokens_are_written_little_endian_in_the_dtype_asked_for() -> None:
    item = ImageTokens(np.ones((2, 3), np.uint16), (8, 12))
    batch = TokenBatch("m", "c", "t", "pad", (item, item))
    for dtype, descr in ((None, b"<u2"), ("int64", b"<i8"), ("uint32", b"<u4")):
        assert descr in encode_tokens(batch, EncodeOptions(dtype=dtype))
    flat = np.load(io.BytesIO(encode_tokens(batch, EncodeOptions(layout="flat"))))
    assert flat.shape == (2, 6)
    assert common_size(batch) == (8, 12)


def test_an_empty_batch_has_no_array() -> None:
    with pytest.raises(NotAcceptable):
        encode_tokens(TokenBatch(None, None, None, None, ()))


def test_images_survive_the_round_trip_without_a_copy() -> None:
    images = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    back = decode_images(encode_images(list(images)))
    np.testing.assert_array_equal(back, images, strict=True)
    assert not back.flags.owndata


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1, 2, 2, 3), "<f4"), ((1, 2, 2, 3), "int8"), ((2, 2, 3), "uint8"), ((1, 3, 2, 2), "uint8"),
     ((1, 2, 2, 4), "uint8"), ((0, 2, 2, 3), "uint8"), ((1, 0, 2, 3), "uint8")],
)  # fmt: skip
def test_images_of_another_kind_are_refused(shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(InvalidParameter, match=r"uint8 of shape \(N, H, W, 3\)"):
        decode_images(saved(np.zeros(shape, dtype)))


def test_images_of_different_sizes_are_refused_with_what_can_carry_them() -> None:
    with pytest.raises(NotAcceptable, match="application/zip"):
        encode_images([np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3, 3), np.uint8)])
