"""float32 products in float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def exact_float32() -> Iterator[None]:
    """Inside, no float32 product or convolution on a GPU is cut to TF32; restored afterwards.

    TF32 keeps 10 bits of a factor, as half precision does. Scores of neighbouring codes differ by
    less, so that a search in TF32 finds other codes than evaluation and the exported graphs.
    """
    cudnn: Any = torch.backends.cudnn
    places = (torch.backends.cuda.matmul, cudnn.conv)
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "ieee"
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value
