"""The format's page is enough to read a stream: what it shows is run."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from tests.fixtures.bitstream.make import FOLDER, golden_tokens
from vqtok.bitstream import CODERS

PAGE = Path(__file__).parents[3] / "docs/bitstream.md"


def test_the_shown_reader_reads_a_golden_stream() -> None:
    (listing,) = re.findall(r"```python\n(import struct\n.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(listing, str(PAGE), "exec"), names)
    chunks = names["read_packed"]((FOLDER / "packed.vqt").read_bytes())
    got = [image for chunk in chunks for image in chunk]
    expected = golden_tokens()
    assert len(got) == len(expected) == 7
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


def test_every_coder_is_in_the_table() -> None:
    shown = re.findall(r"(?m)^\| (\d+) \| `([a-z]+)` \|", PAGE.read_text())
    assert {name: int(number) for number, name in shown} == {
        name: coder.number for name, coder in CODERS.items()
    }
