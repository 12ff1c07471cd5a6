"""Streams that were written once are read for ever, and today's writer writes the same bytes."""

import numpy as np
import pytest

from tests.fixtures.bitstream.make import FOLDER, golden_tables, golden_tokens, write_stream
from vqtok.bitstream import CHOICES, BitstreamReader

TABLE_IDS = {
    "static": "ca073d1e0a97c0d9",
    "position": "8ea1d0e9a85c19be",
    "context": "bdb5638cbfe549f3",
}


@pytest.mark.parametrize("coder", CHOICES)
def test_a_golden_stream_is_read_and_written_byte_by_byte(coder: str) -> None:
    data = (FOLDER / f"{coder}.vqt").read_bytes()
    tables = golden_tables()
    images = golden_tokens()[: 5 if coder == "position" else 7]
    reader = BitstreamReader(data, tables=tables)
    back = list(reader.images())
    assert len(back) == len(images)
    assert all(np.array_equal(a.tokens, b) for a, b in zip(back, images, strict=True))
    sizes = [(12, 16), None, (12, 16), (11, 16), (12, 16), (19, 8), (4, 24)]
    assert [item.size for item in back] == sizes[: len(back)]
    assert reader.header.model == "made@1"
    assert write_stream(coder, images, tables) == data


def test_no_golden_stream_is_left_out() -> None:
    assert {path.stem for path in FOLDER.glob("*.vqt")} == set(CHOICES)


def test_the_ids_of_tables_never_change() -> None:
    assert golden_tables().ids == TABLE_IDS
