"""Bits of tokens under the learned prior: its passes go through the queue, as those of samples."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.job import Job
from service.passes import logits_in, packed
from service.rows import Rows
from service.work import gather_or_cancel
from vqtok.priors import Ask
from vqtok.priors.likelihood import bits_of_codes, revealed


async def prior_bits(job: Job, grids: Sequence[NDArray[np.int32]]) -> list[float | None]:
    """-log₂ p of each grid without a label; None for one of another size than the native.

    Raises:
        ModelFailure: the prior failed.
    """
    native = [i for i, grid in enumerate(grids) if grid.shape == job.model.prior.grid]
    together = job.model.engine.max_batch_images
    parts = [native[first : first + together] for first in range(0, len(native), together)]
    stacked = (np.stack([grids[i].reshape(-1) for i in part]) for part in parts)
    found = await gather_or_cancel(_measure(job, tokens) for tokens in stacked)
    bits = dict(zip(native, (each for part in found for each in part), strict=True))
    return [bits.get(i) for i in range(len(grids))]


async def _measure(job: Job, tokens: NDArray[np.int32]) -> list[float]:
    """Bits of grids (n, N), a pass after the other, so that only one has its logits in memory."""
    prior, bits = job.model.prior, np.zeros(len(tokens))
    async with job.turns:
        for seen, positions in revealed(prior, tokens):
            rows = packed([Ask(each, len(prior.labels), positions) for each in seen])
            bits += await job.work.reveal(rows, partial(_bits, tokens[:, positions]))
    return bits.tolist()


def _bits(codes: NDArray[np.int32], rows: Rows) -> NDArray[Any]:
    return bits_of_codes(np.stack([logits_in(row) for row in rows]), codes)
