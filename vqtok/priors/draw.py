"""Samples of a prior, from the wish to the tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidParameter, InvalidTokens
from vqtok.priors.choice import BITS, changed, drawn_together
from vqtok.priors.prior import Prior
from vqtok.priors.reveal import Ask, Reveal
from vqtok.priors.table import TablePrior
from vqtok.priors.uniforms import uniforms
from vqtok.priors.windows import Pass, drawn_by, num_windows, plan_passes
from vqtok.priors.wish import Wish


@dataclass(frozen=True, eq=False)
class Drawn:
    """tokens int32 (n, *grid). bits float64 (n,): the code length of what was drawn, under the
    model itself, given the label; drawn_bits, under the distribution that it was drawn from, which
    the rule may have changed. Known tokens cost nothing. windowed: whether the grid is not the
    native one.
    """

    tokens: NDArray[np.int32]
    bits: NDArray[np.float64]
    drawn_bits: NDArray[np.float64]
    windowed: bool


def draw_all(prior: Prior, wish: Wish, batch: int = 16) -> Drawn:
    """Draw what a wish asks for; `batch` rows go to the prior together.

    Sample i depends on (seed, i) and the wish, never on the other samples.

    Raises:
        InvalidParameter, InvalidTokens: as `begin`. ModelFailure: the runtime failed.
    """
    if isinstance(prior, TablePrior):
        return _from_table(prior, wish)
    reveals = begin(prior, wish)
    for start in range(0, len(reveals), batch):
        _finish(prior, reveals[start : start + batch])
    return result_of(prior, wish, reveals)


def begin(prior: Prior, wish: Wish) -> list[Reveal]:
    """The grids of a wish, nothing drawn yet.

    Raises:
        InvalidParameter: no such label or grid; known tokens for a prior that draws in one order
        only. InvalidTokens: known tokens that are no codes or have another shape.
    """
    tokens, passes = _planned(prior, wish)
    label, no_label = _label_of(prior, wish), len(prior.labels)
    labels = (label, no_label) if wish.rule.cfg_scale > 0 else (label,)
    return [
        Reveal(
            passes,
            tokens.copy(),
            uniforms(wish.seed, index, tokens.size),
            wish.rule,
            labels,
            prior.codebook_size,
        )
        for index in range(wish.first, wish.first + wish.n)
    ]


def most_rows(prior: Prior, wish: Wish) -> int:
    """How many rows of the prior a wish takes at most, without planning it: a row for each group of
    each window, two with guidance. A table is asked once a window.

    Raises:
        InvalidParameter: no such grid.
    """
    grid = checked_grid(prior, wish.grid)
    groups = 1 if isinstance(prior, TablePrior) else wish.passes or int(prior.groups.max()) + 1
    rows = 2 if wish.rule.cfg_scale > 0 else 1
    return wish.n * rows * min(groups, len(prior.groups)) * num_windows(prior.grid, grid)


def _planned(prior: Prior, wish: Wish) -> tuple[NDArray[np.int32], list[Pass]]:
    """What is known of each grid of a wish, K where nothing is; the passes that draw the rest."""
    grid = checked_grid(prior, wish.grid)
    tokens = _known_tokens(prior, wish, grid)
    is_known = tokens != prior.codebook_size
    is_plain = grid == prior.grid and wish.passes is None and not is_known.any()
    if not prior.any_order and not is_plain:
        raise InvalidParameter(
            f"The prior of this model ({prior.name}) draws one token after another: whole grids of "
            f"{_by(prior.grid)}, without known tokens, in its own number of passes."
        )
    return tokens, plan_passes(prior.grid, grid, _groups(prior, wish), is_known)


def _groups(prior: Prior, wish: Wish) -> NDArray[np.int64]:
    """The prior's own groups, or as many of equal size as were asked for."""
    if wish.passes is None:
        return prior.groups
    size = len(prior.order)
    groups = np.empty(size, np.int64)
    groups[prior.order] = np.arange(size) * min(wish.passes, size) // size
    return groups


def _label_of(prior: Prior, wish: Wish) -> int:
    label = wish.label
    if label is None:
        return len(prior.labels)
    if isinstance(label, str) and label in prior.labels:
        return prior.labels.index(label)
    if isinstance(label, str) or not 0 <= label < len(prior.labels):
        raise InvalidParameter(_no_such_label(prior))
    return label


def _from_table(prior: TablePrior, wish: Wish) -> Drawn:
    """As by reveals, but all samples together, since no position asks for another."""
    grid = checked_grid(prior, wish.grid)
    known = _known_tokens(prior, wish, grid)
    _label_of(prior, wish)
    samples = range(wish.first, wish.first + wish.n)
    tosses = np.stack([uniforms(wish.seed, index, known.size) for index in samples])
    log_q = changed(wish.rule, prior.log_table, None)
    tokens = np.tile(known, (wish.n, 1))
    bits, drawn_bits = np.zeros(wish.n), np.zeros(wish.n)
    positions, is_open = drawn_by(prior.grid, grid), known == prior.codebook_size
    for position in np.unique(positions[is_open]):
        places = np.flatnonzero(is_open & (positions == position))
        codes = drawn_together(log_q[position], tosses[:, places])
        tokens[:, places] = codes
        bits -= prior.log_table[position, codes].sum(axis=1) * BITS
        drawn_bits -= log_q[position, codes].sum(axis=1) * BITS
    return Drawn(tokens.reshape(wish.n, *grid), bits, drawn_bits, windowed=grid != prior.grid)


def result_of(prior: Prior, wish: Wish, reveals: Sequence[Reveal]) -> Drawn:
    """What came of the grids of a wish, all of them done."""
    grid = wish.grid or prior.grid
    return Drawn(
        tokens=np.stack([each.tokens for each in reveals]).reshape(len(reveals), *grid),
        bits=np.array([each.bits for each in reveals]),
        drawn_bits=np.array([each.drawn_bits for each in reveals]),
        windowed=tuple(grid) != tuple(prior.grid),
    )


def checked_grid(prior: Prior, grid: tuple[int, ...] | None) -> tuple[int, ...]:
    """The grid, or the native one. Raises InvalidParameter for another rank or depth."""
    if grid is None:
        return prior.grid
    if len(grid) != len(prior.grid) or tuple(grid[2:]) != tuple(prior.grid[2:]) or min(grid) < 1:
        raise InvalidParameter(
            f"grid must be {len(prior.grid)} positive numbers, such as {_by(prior.grid)}, and any "
            "depth the model's."
        )
    return tuple(grid)


def stack(asks: Sequence[Ask]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Tokens (n, N), labels (n,), positions (n, P) of several asks; shorter rows of positions are
    filled with position 0.
    """
    most = max(len(ask.positions) for ask in asks)
    positions = np.zeros((len(asks), most), np.int32)
    for row, ask in zip(positions, asks, strict=True):
        row[: len(ask.positions)] = ask.positions
    labels = np.array([ask.label for ask in asks], np.int32)
    return np.stack([ask.tokens for ask in asks]), labels, positions


def _finish(prior: Prior, reveals: Sequence[Reveal]) -> None:
    while left := [each for each in reveals if not each.is_done]:
        asked = [each.asks() for each in left]
        logits = prior.logits(*stack([ask for asks in asked for ask in asks]))
        place = 0
        for reveal, asks in zip(left, asked, strict=True):
            reveal.accept(list(logits[place : place + len(asks)]))
            place += len(asks)


def _known_tokens(prior: Prior, wish: Wish, grid: tuple[int, ...]) -> NDArray[np.int32]:
    """int32 (num,), K where a token is to be drawn."""
    size = math.prod(grid)
    if wish.known is None or wish.mask is None:
        return np.full(size, prior.codebook_size, np.int32)
    known, mask = wish.known, wish.mask
    if known.shape != grid or mask.shape != grid:
        raise InvalidTokens(
            f"Known tokens {known.shape} and mask {mask.shape} must have the shape of the grid, "
            f"{grid}."
        )
    if known.dtype.kind not in "iu":
        raise InvalidTokens(f"Tokens must be integers, not {known.dtype}.")
    chosen = known[mask.astype(bool)]
    if chosen.size and not (chosen.min() >= 0 and chosen.max() < prior.codebook_size):
        raise InvalidTokens(f"Known tokens must be in 0 .. {prior.codebook_size - 1}.")
    # Unknown places may hold anything, so they are looked at only here.
    return np.where(mask.astype(bool), known, prior.codebook_size).astype(np.int32).reshape(-1)


def _no_such_label(prior: Prior) -> str:
    if not prior.labels:
        return f"The prior of this model ({prior.name}) knows no labels. Leave label out."
    names = ", ".join(prior.labels)
    return f"label must be in 0 .. {len(prior.labels) - 1}, or one of {names}."


def _by(grid: Sequence[int]) -> str:
    return " x ".join(map(str, grid))
