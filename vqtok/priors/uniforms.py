"""Random numbers of samples: a function of seed, sample and position, and of nothing else."""

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidParameter

LARGEST_SEED = 2**64 - 1
_UNIT = 2.0**-53


def uniforms(seed: int, index: int, count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1), float64 (count,), of sample number `index` of a seed (Philox, Salmon et
    al. 2011). They come from the raw 64 bits, which numpy promises never to change.

    Raises:
        InvalidParameter: a seed outside 0 .. 2**64 - 1.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise InvalidParameter("seed must be in 0 .. 2**64 - 1.")
    # An array: numpy makes floats of a list with a number above 2**63, and seeds would collide.
    key = np.array([seed, index], dtype=np.uint64)
    raw = np.random.Philox(key=key).random_raw(count)
    return (raw >> np.uint64(11)).astype(np.float64) * _UNIT
