"""Whatever the bytes, an image gives pixels of the size that its header states, or is refused."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.vqtok.picture_files import noise, saved
from vqtok.errors import InvalidInput
from vqtok.images import FORMATS, probe, read_image

PICTURE = Image.fromarray(noise(16, 16))
WHOLE = {name: saved(PICTURE, name.upper()) for name in FORMATS}
SIGNATURES = [signature for module in FORMATS.values() for signature in module.SIGNATURES]


def check(data: bytes) -> None:
    """Pixels of the stated size, or the caller's fault."""
    with contextlib.suppress(InvalidInput):
        pixels = read_image(data)
        assert pixels.shape == (*probe(data).size, 3)
        assert pixels.dtype == np.uint8


@pytest.mark.parametrize("format", FORMATS)
@given(data=st.data())
def test_changed_bytes_do_no_harm(format: str, data: st.DataObject) -> None:
    damaged = bytearray(WHOLE[format])
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFE, 0xFF]))
    check(bytes(damaged))


@pytest.mark.parametrize("format", FORMATS)
@given(data=st.data())
def test_missing_and_added_bytes_do_no_harm(format: str, data: st.DataObject) -> None:
    whole = WHOLE[format]
    first, second = (data.draw(st.integers(0, len(whole))) for _ in range(2))
    check(whole[:first] + data.draw(st.binary(max_size=8)) + whole[second:])


@given(st.sampled_from(SIGNATURES), st.binary(max_size=300))
def test_anything_after_a_signature_does_no_harm(signature: bytes, rest: bytes) -> None:
    check(signature + rest)
