"""The learned prior of a bundle. The session is handed in: only `vqtok.runtime.onnx` opens it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import ModelFailure
from vqtok.manifest import Manifest
from vqtok.priors.spec import PriorSpec
from vqtok.runtime.sessions import first_line


@dataclass(frozen=True)
class PriorSession:
    """An open session on a prior's graph, whose sha256 is `digest`. It runs `num_rows` rows at a
    time and may raise `errors`; `runtime` says in words what else the last digits of its logits
    depend on.
    """

    session: Any
    errors: tuple[type[Exception], ...]
    num_rows: int
    digest: str
    runtime: str


class OnnxPrior:
    """A `Prior` on a graph: tokens int32 (n, N), labels int32 (n,), positions int32 (n, P) to
    logits float32 (n, P, K).

    The graph only ever runs at one shape, `num_rows` rows of the largest group's positions: what a
    row gives then depends on nothing but the row.
    """

    def __init__(self, opened: PriorSession, manifest: Manifest, spec: PriorSpec) -> None:
        self.name = spec.kind
        self.grid = manifest.grid
        self.codebook_size = manifest.codebook_size
        self.groups: NDArray[np.int64] = np.array(spec.groups, np.int64)
        self.order: NDArray[np.int64] = np.array(spec.order, np.int64)
        self.any_order = spec.any_order
        self.labels = spec.labels
        self.num_rows = opened.num_rows
        self.digest, self.runtime = opened.digest, opened.runtime
        self.num_positions = int(np.bincount(self.groups).max())
        """Asked for in one run of the graph; more take several."""
        self._session, self._errors = opened.session, opened.errors

    def logits(
        self,
        tokens: NDArray[np.int32],
        labels: NDArray[np.int32],
        positions: NDArray[np.int32],
    ) -> NDArray[np.float32]:
        result = np.empty((*positions.shape, self.codebook_size), np.float32)
        for row in range(0, len(tokens), self.num_rows):
            rows = slice(row, row + self.num_rows)
            for first in range(0, positions.shape[1], self.num_positions):
                places = slice(first, first + self.num_positions)
                result[rows, places] = self._run(
                    tokens[rows], labels[rows], positions[rows, places]
                )
        return result

    def _run(
        self,
        tokens: NDArray[np.int32],
        labels: NDArray[np.int32],
        positions: NDArray[np.int32],
    ) -> NDArray[np.float32]:
        count, asked = positions.shape
        feed = {"tokens": tokens, "labels": labels, "positions": positions}
        if positions.shape != (self.num_rows, self.num_positions):
            feed = {
                "tokens": _padded(tokens, (self.num_rows, tokens.shape[1])),
                "labels": _padded(labels, (self.num_rows,)),
                "positions": _padded(positions, (self.num_rows, self.num_positions)),
            }
        try:
            return self._session.run(["logits"], feed)[0][:count, :asked]
        except self._errors as error:
            raise ModelFailure(f"onnxruntime failed: {first_line(error)}") from error


def _padded(array: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """The array with zeros behind it on each axis."""
    padded = np.zeros(shape, np.int32)
    padded[tuple(slice(side) for side in array.shape)] = array
    return padded
