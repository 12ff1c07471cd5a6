"""What a comparison of priors has found: JSON of its rows, and beside it each test image's bits."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.files import locked, write_whole
from training.priors.measure import standard_error


@dataclass(frozen=True, eq=False)
class FinishedRow:
    """What is known of a row by itself, and its bits of each test image, float32 (n,)."""

    record: Mapping[str, Any]
    bits: NDArray[np.float32]

    @property
    def name(self) -> str:
        return self.record["name"]

    @property
    def is_exact(self) -> bool:
        """Whether the bits are code lengths and no bound on them."""
        return self.record["is_exact"]


class PriorStore:
    """The JSON file `path`, and the bits in an .npz of the same name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def document(self) -> dict[str, Any]:
        """All of the JSON; without rows where there is none yet."""
        return json.loads(self.path.read_text()) if self.path.exists() else {"rows": []}

    def rows(self) -> dict[str, FinishedRow]:
        """The finished rows by name."""
        records = self.document()["rows"]
        if not records:
            return {}
        with np.load(self._bits_file) as bits:
            return {each["name"]: FinishedRow(each, bits[each["name"]]) for each in records}

    def add(self, row: FinishedRow, order: Sequence[str]) -> None:
        """Add a row, or put it in the place of its name's, and compare all of them anew. `order` is
        that of the rows' names.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.parent):
            known = self.rows() | {row.name: row}
            rows = sorted(known.values(), key=lambda each: order.index(each.name))
            arrays = io.BytesIO()
            bits: dict[str, Any] = {each.name: each.bits for each in rows}
            np.savez_compressed(arrays, **bits)
            write_whole(arrays.getvalue(), self._bits_file)
            self._write({**self.document(), "rows": [_compared(each, rows) for each in rows]})

    def describe(self, about: Mapping[str, Any]) -> None:
        """Say this beside the rows, if there are any."""
        with locked(self.path.parent):
            document = self.document()
            described = {**about, "rows": document["rows"]}
            if document["rows"] and document != described:
                self._write(described)

    def _write(self, document: Mapping[str, Any]) -> None:
        text = json.dumps(document, indent=1, allow_nan=False)
        write_whole(f"{text}\n".encode(), self.path)

    @property
    def _bits_file(self) -> Path:
        return self.path.with_suffix(".npz")


def _compared(row: FinishedRow, rows: Sequence[FinishedRow]) -> dict[str, Any]:
    bits = row.bits.astype(np.float64)
    return {
        **row.record,
        "test": {
            "images": len(bits),
            "bits_per_image": float(bits.mean()),
            "standard_error": standard_error(bits),
        },
        # The mean over images of this row's bits minus another's, and its 95 % interval; where
        # both are code lengths.
        "minus": {
            other.name: _interval(bits - other.bits)
            for other in rows
            if other is not row and row.is_exact and other.is_exact
        },
    }


def _interval(differences: NDArray[np.float64]) -> list[float]:
    mean, half = float(differences.mean()), 1.96 * standard_error(differences)
    return [mean, mean - half, mean + half]
