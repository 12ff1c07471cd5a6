"""What becomes of the rows of one shape: arrays, which stay together as long as no row fails."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import VqtokError

ValueT = TypeVar("ValueT")

Arrays: TypeAlias = tuple[NDArray[Any], ...]
"""What the model gives for a batch: arrays of equally many rows; or of one row: one of each."""

Row: TypeAlias = Arrays | VqtokError
"""What one row became: the arrays of that row, or why it failed."""


class Rows(Sequence[Row]):
    """What rows became, in order. `arrays` has all of them together, (n, ...) each; it is None
    where one failed or where they never were together.
    """

    __slots__ = ("_each", "arrays")

    def __init__(self, arrays: Arrays | None, each: Sequence[Row] = ()) -> None:
        self.arrays = arrays
        self._each = each

    @staticmethod
    def of(each: Sequence[Row]) -> "Rows":
        """Rows that are not together."""
        return Rows(None, each)

    @staticmethod
    def joined(parts: Sequence["Rows"]) -> "Rows":
        """The rows of several, in order."""
        if len(parts) == 1:
            return parts[0]
        together = [part.arrays for part in parts if part.arrays is not None]
        if not together or len(together) < len(parts):
            return Rows.of([row for part in parts for row in part])
        return Rows(tuple(np.concatenate(column) for column in zip(*together, strict=True)))

    @property
    def stacks(self) -> list[Arrays]:
        """Those that did not fail, in order, in as few arrays (n, ...) as there are."""
        if self.arrays is not None:
            return [self.arrays]
        alive = (row for row in self._each if not isinstance(row, VqtokError))
        return [tuple(array[None] for array in row) for row in alive]

    def part(self, start: int, count: int) -> "Rows":
        """`count` of the rows, from number `start` on."""
        end = start + count
        if self.arrays is None:
            return Rows.of(self._each[start:end])
        return Rows(tuple(array[start:end] for array in self.arrays))

    def __len__(self) -> int:
        return len(self._each) if self.arrays is None else len(self.arrays[0])

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if self.arrays is None:
            return self._each[index]
        return tuple(array[index] for array in self.arrays)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._each) if self.arrays is None else zip(*self.arrays, strict=True)


def itself(value: ValueT) -> ValueT:
    """What it is given: for rows of which nothing is to be made."""
    return value
