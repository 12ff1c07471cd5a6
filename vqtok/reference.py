"""What a bundle remembers of its training data, and the image that proves the graphs unharmed."""

import io
import zipfile
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import BundleCorrupt
from vqtok.manifest import Manifest
from vqtok.statistics import DriftNull, DriftReference, ReferenceUsage

REFERENCE_FILE = "reference.npz"

_DTYPES: dict[str, type[np.generic]] = {
    "usage": np.int64,
    "position_counts": np.uint32,
    "golden_image": np.uint8,
    "golden_tokens": np.int32,
    "golden_margins": np.float32,
    "golden_reconstruction": np.uint8,
    "probe_margins": np.float32,
    "probe_pixels": np.uint8,
    "drift_usage": np.int64,
    "drift_images": np.int64,
    "drift_mean": np.float64,
    "drift_sd": np.float64,
    "drift_quantiles": np.float64,
    "coder_clusters": np.uint16,
    "coder_context_counts": np.uint32,
    "coder_smoothing": np.int64,
}
_DRIFT = ("drift_usage", "drift_images", "drift_mean", "drift_sd", "drift_quantiles")
_CODER = ("coder_clusters", "coder_context_counts", "coder_smoothing")
_OPTIONAL = frozenset({"probe_margins", "probe_pixels", *_DRIFT, *_CODER})
MOST_COUNTED = 2**27
"""So many tokens at most in one row of counts: weights made of them then stay below 2⁵³."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Arrays of `reference.npz`; H, W and h, w are the native size and its grid.

    `usage` int64 (K,) or (depth, K) and `position_counts` uint32 (h, w[, depth], K) count training
    tokens. `golden_image` uint8 (H, W, 3) must give `golden_tokens` int32 (h, w[, depth]) and
    `golden_margins` float32 (h, w); these tokens must give `golden_reconstruction` uint8
    (H, W, 3). `probe_margins` and `probe_pixels` are the answers of `vqtok.proof.with_probe`; None
    in a bundle without them. `drift_usage`, shaped as `usage`, counts tokens of an operator's
    images (`vqtok calibrate`), and the other `drift_` arrays are those of
    `vqtok.statistics.DriftNull`; None in a bundle that was never calibrated. `coder_clusters`
    uint16 (depth, K), `coder_context_counts` uint32 (depth, (C + 1)², K) and `coder_smoothing`
    int64 (4, depth) are what bitstreams are coded by (`vqtok.bitstream.CoderTables`), all of them
    or none. A later writer may add arrays; this reader leaves them out.
    """

    usage: NDArray[np.int64]
    position_counts: NDArray[np.uint32]
    golden_image: NDArray[np.uint8]
    golden_tokens: NDArray[np.int32]
    golden_margins: NDArray[np.float32]
    golden_reconstruction: NDArray[np.uint8]
    probe_margins: NDArray[np.float32] | None = None
    probe_pixels: NDArray[np.uint8] | None = None
    drift_usage: NDArray[np.int64] | None = None
    drift_images: NDArray[np.int64] | None = None
    drift_mean: NDArray[np.float64] | None = None
    drift_sd: NDArray[np.float64] | None = None
    drift_quantiles: NDArray[np.float64] | None = None
    coder_clusters: NDArray[np.uint16] | None = None
    coder_context_counts: NDArray[np.uint32] | None = None
    coder_smoothing: NDArray[np.int64] | None = None

    def with_drift_null(self, null: DriftNull) -> "Reference":
        """The same with this null distribution of drift."""
        return replace(self, **null.to_arrays())

    def drift_reference(self) -> DriftReference:
        """What live tokens are compared with: the operator's tokens where there are any, else those
        of training.

        Raises:
            BundleCorrupt: the `drift_` arrays do not fit each other.
        """
        try:
            null = DriftNull.from_arrays({name: getattr(self, name) for name in _DTYPES})
        except ValueError as error:
            raise BundleCorrupt(f"{REFERENCE_FILE}: drift arrays: {error}.") from None
        if self.drift_usage is None:
            return DriftReference(ReferenceUsage(self.usage), null)
        return DriftReference(ReferenceUsage(self.drift_usage), null, "calibration")

    def to_npz(self) -> bytes:
        """The file's bytes; equal arrays give equal bytes."""
        buffer = io.BytesIO()
        arrays = {
            name: np.ascontiguousarray(getattr(self, name), dtype=dtype)
            for name, dtype in _DTYPES.items()
            if getattr(self, name) is not None
        }
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @staticmethod
    def from_npz(data: bytes) -> "Reference":
        """Read the file.

        Raises:
            BundleCorrupt: not a zip of arrays, or an array missing or of another dtype.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                wanted = [n for n in _DTYPES if n in archive.files or n not in _OPTIONAL]
                arrays = {name: archive[name] for name in wanted}
        except KeyError as error:
            raise BundleCorrupt(f"{REFERENCE_FILE} lacks an array: {error.args[0]}.") from None
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise BundleCorrupt(f"{REFERENCE_FILE} does not read: {error}.") from None
        for name, array in arrays.items():
            if array.dtype != _DTYPES[name]:
                expected = np.dtype(_DTYPES[name])
                raise BundleCorrupt(f"{REFERENCE_FILE}: {name} is {array.dtype}, not {expected}.")
        return Reference(**arrays)

    def check_against(self, manifest: Manifest) -> None:
        """Compare every shape and range with the manifest.

        Raises:
            BundleCorrupt: naming the array, its shape and the shape it must have.
        """
        height, width = manifest.image.native_size
        codes = manifest.codebook_size
        expected: dict[str, tuple[int, ...]] = {
            "usage": (manifest.depth, codes) if manifest.depth > 1 else (codes,),
            "position_counts": (*manifest.grid, codes),
            "golden_image": (height, width, manifest.image.channels),
            "golden_tokens": manifest.grid,
            "golden_margins": manifest.grid[:2],
            "golden_reconstruction": (height, width, manifest.image.channels),
        }
        for name, shape in expected.items():
            array: NDArray[Any] = getattr(self, name)
            if array.shape != shape:
                raise BundleCorrupt(
                    f"{REFERENCE_FILE}: {name} has shape {array.shape}; the manifest's grid, "
                    f"depth and codebook_size need {shape}."
                )
        if self.golden_tokens.min() < 0 or self.golden_tokens.max() >= codes:
            raise BundleCorrupt(f"{REFERENCE_FILE}: golden_tokens leave 0 .. {codes - 1}.")
        if self.usage.min() < 0:
            raise BundleCorrupt(f"{REFERENCE_FILE}: usage holds a negative count.")
        self._check_drift()
        self._check_coder(manifest.depth, codes)

    def _check_drift(self) -> None:
        self.drift_reference()
        usage = self.drift_usage
        if usage is None:
            return
        if usage.shape != self.usage.shape:
            raise BundleCorrupt(
                f"{REFERENCE_FILE}: drift_usage has shape {usage.shape}, not {self.usage.shape}."
            )
        if usage.min() < 0:
            raise BundleCorrupt(f"{REFERENCE_FILE}: drift_usage holds a negative count.")

    def _check_coder(self, depth: int, codes: int) -> None:
        present = [name for name in _CODER if getattr(self, name) is not None]
        if not present:
            return
        if len(present) < len(_CODER):
            raise BundleCorrupt(f"{REFERENCE_FILE} holds {' and '.join(present)} alone.")
        clusters, counts, smoothing = (getattr(self, name) for name in _CODER)
        shape = counts.shape
        sides = round(shape[1] ** 0.5) if len(shape) == 3 else 0
        fits = (
            clusters.shape == (depth, codes)
            and shape == (depth, sides * sides, codes)
            and sides > int(clusters.max()) + 1
            and smoothing.shape == (4, depth)
        )
        if not fits:
            raise BundleCorrupt(
                f"{REFERENCE_FILE}: the arrays of the coders have the shapes {clusters.shape}, "
                f"{shape} and {smoothing.shape}, which do not fit each other or the manifest."
            )
        sums = (counts.sum(axis=-1, dtype=np.int64), self.position_counts.sum(axis=-1))
        too_many = max(int(each.max()) for each in sums) >= MOST_COUNTED
        if too_many or not 1 <= smoothing.min() <= smoothing.max() < MOST_COUNTED:
            raise BundleCorrupt(
                f"{REFERENCE_FILE}: the arrays of the coders hold too large values."
            )
