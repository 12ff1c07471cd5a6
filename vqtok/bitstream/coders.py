"""The table of coders, and the choice among them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vqtok.bitstream import entropy, learned, packed
from vqtok.bitstream.groups import (
    Groups,
    Tokens,
    context_groups,
    position_groups,
    static_groups,
)
from vqtok.bitstream.learned import CodingPrior
from vqtok.bitstream.tables import CoderTables, Row
from vqtok.errors import BitstreamDamaged, InvalidParameter
from vqtok.priors.likelihood import bits_of


@dataclass(frozen=True)
class Coder:
    """A way to write tokens. `number` stands in streams; `groups` is its order, None for one that
    goes by no tables; `any_grid` is False where it knows the native grid alone; `is_portable` says
    whether every machine reads it.
    """

    number: int
    groups: Callable[[Tokens, CoderTables], Groups] | None = None
    any_grid: bool = True
    is_portable: bool = True


PACKED: Final = "packed"
PRIOR: Final = "prior"
AUTO: Final = "auto"
AUTO_NUMBER: Final = 255
CODERS: Final[Mapping[str, Coder]] = {
    PACKED: Coder(0),
    "static": Coder(1, static_groups),
    "position": Coder(2, position_groups, any_grid=False),
    "context": Coder(3, context_groups),
    PRIOR: Coder(16, any_grid=False, is_portable=False),
}
NUMBERS: Final = {coder.number: name for name, coder in CODERS.items()}
PORTABLE: Final = tuple(name for name, coder in CODERS.items() if coder.is_portable)
CHOICES: Final = (AUTO, *PORTABLE)
"""What can be asked for without more ado; `prior` has to be allowed."""


@dataclass(frozen=True, eq=False)
class Coding:
    """The coders of one codebook: K codes, `depth` tokens a cell, and its tables and its learned
    prior if it has any.

    Tokens are (n, h, w, depth), of any integer dtype and in range.
    """

    codebook_size: int
    depth: int = 1
    tables: CoderTables | None = None
    prior: CodingPrior | None = None

    def __post_init__(self) -> None:
        own, tables, prior = (self.codebook_size, self.depth), self.tables, self.prior
        if tables is not None and (tables.codebook_size, tables.depth) != own:
            raise InvalidParameter("The coder tables are of another codebook size or depth.")
        if prior is not None and (prior.codebook_size, learned.depth_of(prior)) != own:
            raise InvalidParameter("The prior is of another codebook size or depth.")

    @cached_property
    def table_ids(self) -> Mapping[str, str]:
        """The id of each coder's tables, or of the prior, 16 hex digits."""
        ids = {} if self.tables is None else self.tables.ids
        return ids if self.prior is None else {**ids, PRIOR: learned.prior_id(self.prior)}

    def obstacle(self, coder: str, grid: tuple[int, int]) -> str | None:
        """Why a coder cannot write tokens of this grid (h, w); None where it can."""
        if coder == PRIOR:
            return learned.obstacle(self.prior, grid)
        known = CODERS[coder]
        if known.groups is None:
            return None
        if self.tables is None:
            return "the bundle holds no coder tables"
        if not self.tables.has(coder):
            return f"a table for {coder} would be too large for this codebook and grid"
        if not known.any_grid and grid != self.tables.native_grid:
            return "the grid {}x{} is not the native one, {}x{}".format(
                *grid, *self.tables.native_grid
            )
        return None

    def bits(self, coder: str, tokens: NDArray[Any]) -> NDArray[np.float64]:
        """Code length of each image, float64 (n,), by a coder without an obstacle.

        Raises:
            ModelFailure: the prior's runtime failed.
        """
        if coder == PRIOR:
            return bits_of(self._learned, tokens)
        groups = CODERS[coder].groups
        if groups is None or self.tables is None:
            each = packed.bits_per_token(self.codebook_size) * int(np.prod(tokens.shape[1:]))
            return np.full(len(tokens), float(each))
        plain = np.ascontiguousarray(tokens, np.int32)
        return entropy.code_lengths(plain, groups(plain, self.tables), self._lengths)

    def choose(self, tokens: NDArray[Any]) -> str:
        """The coder that every machine reads with the shortest code for these tokens; of equal ones
        the simplest.
        """
        grid = (tokens.shape[1], tokens.shape[2])
        able = [coder for coder in PORTABLE if self.obstacle(coder, grid) is None]
        return min(able, key=lambda coder: float(self.bits(coder, tokens).sum()))

    def encode(self, coder: str, tokens: NDArray[Any]) -> bytes:
        """The payload of a chunk, by a coder without an obstacle.

        Raises:
            ModelFailure: the prior's runtime failed, or does not give the same twice.
        """
        if coder == PRIOR:
            return learned.encode(np.ascontiguousarray(tokens, np.int32), self._learned)
        groups = CODERS[coder].groups
        if groups is None or self.tables is None:
            return packed.pack(tokens, self.codebook_size)
        plain = np.ascontiguousarray(tokens, np.int32)
        return entropy.encode(plain, groups(plain, self.tables), self._models)

    def decode(self, coder: str, payload: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
        """The tokens (n, h, w, depth) of a payload, by a coder without an obstacle.

        Raises:
            BitstreamDamaged: bytes that no encoder writes; the detail is a reason.
            ModelFailure: the prior's runtime failed.
        """
        if coder == PRIOR:
            return learned.decode(payload, shape, self._learned)
        groups, count = CODERS[coder].groups, int(np.prod(shape))
        if groups is None or self.tables is None:
            if len(payload) != packed.packed_bytes(count, self.codebook_size):
                raise BitstreamDamaged("it has not the length of its tokens", part="payload")
            return packed.unpack(payload, count, self.codebook_size).reshape(shape)
        tokens = np.zeros(shape, np.int32)
        entropy.decode(payload, tokens, groups(tokens, self.tables), self._models)
        return tokens

    @property
    def _learned(self) -> CodingPrior:
        assert self.prior is not None
        return self.prior

    @cached_property
    def _models(self) -> entropy.Models:
        assert self.tables is not None
        return entropy.models_of(self.tables)

    @cached_property
    def _lengths(self) -> Callable[[Row], NDArray[np.float64]]:
        assert self.tables is not None
        return entropy.lengths_of(self.tables)
