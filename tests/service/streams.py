"""A bitstream to send."""

import numpy as np

from tests.service.conftest import SHIPPED_BUNDLE
from vqtok.bitstream import Coding, StreamHeader, stream_bytes
from vqtok.tokens import ImageTokens


def example_stream() -> bytes:
    """Two grids of the shipped bundle's codes, and no ids."""
    codes = len(np.load(SHIPPED_BUNDLE / "codebook.npy"))
    grids = (np.zeros((2, 2), np.uint16), np.ones((2, 2), np.uint16))
    items = [ImageTokens(grid) for grid in grids]
    return b"".join(stream_bytes(items, StreamHeader(codebook_size=codes), Coding(codes)))
