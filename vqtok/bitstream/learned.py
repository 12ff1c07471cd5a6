"""The coder `prior`: tokens by a learned prior, group by group of its schedule.

The last digits of a network's logits are those of a runtime on a processor, and one of them that
differs may make noise of the rest of a chunk. So a stream names the runtime that wrote it, and no
other one reads it. Between the logits and the bytes there are integers only, the same on every
machine: a code that lies d nats below the likeliest one has the weight

    w(d) = ⌊2²⁴ e^(−d)⌋ + 1,        d rounded to 1/1024
"""

import hashlib
from collections.abc import Iterator
from decimal import Decimal, localcontext
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from vqtok.bitstream import entropy
from vqtok.bitstream.tables import ID_DIGITS, MOST_CODES, SCALE, Weights
from vqtok.errors import BitstreamDamaged, ModelFailure
from vqtok.priors.likelihood import logits_of, revealed, unlabelled
from vqtok.priors.prior import Prior

STEPS: Final = 1 << 10
"""A nat has so many; to round to one takes less than a millionth of a bit a token."""
_RULE: Final = "vqtok prior 1"
"""To be counted up whenever the same graph would give other weights than before: by other formulas,
other options of its session, or another number of rows in a run."""


class CodingPrior(Prior, Protocol):
    """A learned prior whose streams can be told from others: `digest` is the sha256 of its graph,
    and `runtime` says in words what else its logits depend on.
    """

    digest: str
    runtime: str


def prior_id(prior: CodingPrior) -> str:
    """An id, 16 hex digits, of all that the weights are made of but the runtime."""
    groups = np.ascontiguousarray(prior.groups, "<i8").tobytes()
    sha = hashlib.sha256(f"{_RULE} {prior.digest} {prior.grid} ".encode() + groups)
    return sha.hexdigest()[:ID_DIGITS]


def depth_of(prior: CodingPrior) -> int:
    """Tokens a cell."""
    return prior.grid[2] if len(prior.grid) > 2 else 1


def obstacle(prior: CodingPrior | None, grid: tuple[int, int]) -> str | None:
    """Why tokens of this grid (h, w) cannot be coded by the prior; None where they can."""
    if prior is None:
        return "the bundle holds no learned prior"
    if prior.codebook_size > MOST_CODES:
        return f"the coder takes {MOST_CODES} codes at most"
    if grid != prior.grid[:2]:
        return "the grid {}x{} is not the native one, {}x{}".format(*grid, *prior.grid[:2])
    return None


def encode(tokens: NDArray[np.int32], prior: CodingPrior) -> bytes:
    """The payload of tokens (n, h, w, depth) of the native grid, which has been read once.

    Raises:
        ModelFailure: the runtime failed, or gave other logits the second time.
    """
    flat = tokens.reshape(len(tokens), -1)
    parts = ((flat[rows, places].reshape(-1), w) for rows, places, w in _weights(flat, prior))
    payload = entropy.encode_each(parts)
    # Nobody else can try it: on another machine it would not be read for good reason.
    try:
        is_read = np.array_equal(decode(payload, tokens.shape, prior), tokens)
    except BitstreamDamaged:
        is_read = False
    if not is_read:
        raise ModelFailure(
            "The prior gives other numbers when it is run again, so nothing can be coded by it. "
            "Take another coder."
        )
    return payload


def decode(payload: bytes, shape: tuple[int, ...], prior: CodingPrior) -> NDArray[np.int32]:
    """The tokens of a payload that `encode` made, in their shape (n, h, w, depth).

    Raises:
        BitstreamDamaged: bytes that no encoder writes. ModelFailure: the runtime failed.
    """
    tokens = np.zeros(shape, np.int32)
    flat = tokens.reshape(len(tokens), -1)
    take = entropy.decoder_of_each(payload)
    for rows, places, weights in _weights(flat, prior):
        flat[rows, places] = take(weights).reshape(-1, len(places))
    return tokens


def weights_of(logits: NDArray[Any]) -> Weights:
    """Positive integers (…, K) with a sum below 2⁵³, nearly in proportion to e^logits.

    Raises:
        ModelFailure: logits that are no numbers.
    """
    largest = logits.max(axis=-1, keepdims=True).astype(np.float64)
    if not np.isfinite(largest).all():
        raise ModelFailure("The prior gives logits that are no numbers.")
    steps = np.rint((largest - logits) * STEPS)
    return _FALLING[np.minimum(steps, len(_FALLING) - 1).astype(np.int64)]


def _weights(
    flat: NDArray[np.int32], prior: CodingPrior
) -> Iterator[tuple[slice, NDArray[np.int32], Weights]]:
    """Rows and positions of tokens (n, N) in the order in which they are coded, and the weights of
    each of them. Those of a part are made when all before it have been filled in.
    """
    labels = unlabelled(prior, len(flat))
    for seen, positions in revealed(prior, flat):
        for rows, logits in logits_of(prior, seen, positions, labels):
            yield rows, positions, weights_of(logits).reshape(-1, prior.codebook_size)


def _falling() -> Weights:
    """w of the module's formula at each step. By integers from one rounded number on, since no
    standard says how floats are to round an exponential.
    """
    one = 1 << 128
    with localcontext() as context:
        context.prec = 60
        factor = int((Decimal(-1) / STEPS).exp() * one)
    found: list[int] = []
    share = one
    while weight := share * SCALE // one:
        found.append(weight + 1)
        share = share * factor // one
    return np.array([*found, 1], np.int64)


_FALLING: Final = _falling()
