"""Every entry of WIRE_FORMATS obeys the laws of tests/contracts/wire_format.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts import wire_format as contract
from tests.fixtures.wire.make import FOLDERS
from vqtok.errors import InvalidParameter
from vqtok.tokens import ImageTokens
from vqtok.wire import WIRE_FORMATS, EncodeOptions, WireFormat

every_format = pytest.mark.parametrize("fmt", WIRE_FORMATS.values(), ids=WIRE_FORMATS)


@every_format
@given(data=st.data())
def test_tokens_survive_the_round_trip(fmt: WireFormat, data: st.DataObject) -> None:
    contract.check_round_trip(fmt, data.draw(contract.token_batches(mixed=fmt.carries_mixed_sizes)))


@given(batch=contract.token_batches(mixed=False))
def test_all_formats_carry_the_same_tokens(batch: contract.TokenBatch) -> None:
    for fmt in WIRE_FORMATS.values():
        back = fmt.decode_tokens(
            fmt.encode_tokens(batch, EncodeOptions()), contract.DecodeOptions()
        )
        contract.assert_same_tokens(back, batch)


@every_format
def test_a_format_refuses_what_it_says_it_cannot_carry(fmt: WireFormat) -> None:
    contract.check_flags(fmt)


@every_format
@pytest.mark.parametrize("name", contract.golden_batches())
def test_a_body_cut_short_is_refused(fmt: WireFormat, name: str) -> None:
    contract.check_cut_short(fmt, contract.golden_batches()[name])


@every_format
@given(body=st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(fmt: WireFormat, body: bytes) -> None:
    contract.check_never_crashes(fmt, body)


@every_format
@given(data=st.data())
def test_a_damaged_body_decodes_or_is_refused(fmt: WireFormat, data: st.DataObject) -> None:
    body = bytearray(fmt.encode_tokens(contract.golden_batches()["two-images"], EncodeOptions()))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    contract.check_never_crashes(fmt, bytes(body))


@every_format
def test_bytes_written_once_are_read_for_ever(fmt: WireFormat) -> None:
    contract.check_golden(fmt, FOLDERS[fmt.media_type])


@every_format
def test_a_dtype_that_cannot_hold_the_tokens_is_refused(fmt: WireFormat) -> None:
    batch = contract.batch_of(ImageTokens(np.full((1, 1), 65_536, np.uint32), (4, 4)))
    with pytest.raises(InvalidParameter, match="dtype=uint16 cannot hold"):
        fmt.encode_tokens(batch, EncodeOptions(dtype="uint16"))


@pytest.mark.parametrize("options", [{"dtype": "float32"}, {"dtype": ">u2"}, {"layout": "rows"}])
def test_an_unknown_option_is_refused_with_the_known_ones(options: dict[str, str]) -> None:
    with pytest.raises(InvalidParameter, match="is one of"):
        EncodeOptions(**options)  # pyright: ignore[reportArgumentType]
