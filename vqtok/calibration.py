"""A bundle that knows an operator's own images: what their tokens are like while nothing drifts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.bundle import Bundle, write_bundle
from vqtok.errors import InvalidInput
from vqtok.manifest import Manifest
from vqtok.reference import REFERENCE_FILE, Reference
from vqtok.statistics import DriftNull, resample_null
from vqtok.statistics.resampling import FEWEST_IMAGES, SHARE, Progress, silent
from vqtok.tokens import TokenBatch

FEWEST_FILES = 2 * FEWEST_IMAGES
SEED = 0


@dataclass(frozen=True, eq=False)
class Calibration:
    """Counts of tokens as `Reference.drift_usage`, and the null distribution against them; how many
    images each was made from, and how many had another grid than the native one.
    """

    usage: NDArray[np.int64]
    null: DriftNull
    reference_images: int
    null_images: int
    other_grids: int


def calibrate(manifest: Manifest, batch: TokenBatch, progress: Progress = silent) -> Calibration:
    """From tokens of images as the service will get them.

    One half of the images, drawn by lot, is the reference; windows of the other are compared with
    it, as those of unseen images will be. Windows of the reference's own images would lie too near.

    Raises:
        InvalidInput: fewer than `FEWEST_FILES` images of the native grid.
    """
    native = [item.tokens for item in batch.images if item.tokens.shape == manifest.grid]
    others = len(batch.images) - len(native)
    require_enough(len(native), others, manifest)
    tokens = np.stack(native)[np.random.default_rng(SEED).permutation(len(native))]
    half = len(tokens) // 2
    usage = count_codes(tokens[:half], manifest)
    null = resample_null(tokens[half:], usage, seed=SEED, progress=progress)
    return Calibration(usage, null, half, len(tokens) - half, others)


def require_enough(num_images: int, others: int, manifest: Manifest) -> None:
    """Raise InvalidInput, saying why, when a calibration cannot be made of so many images of the
    native grid and `others`.
    """
    if num_images >= FEWEST_FILES:
        return
    height, width = manifest.image.native_size
    found = f"there are {num_images}"
    if others:
        found = (
            f"only {num_images} of {num_images + others} have the grid of {height}x{width} "
            "(--preprocess resize or center_crop fits the others, if callers do so too)"
        )
    raise InvalidInput(
        f"A calibration needs at least {FEWEST_FILES} images, and {found}. Half of them tell how "
        "often each code is used; from the other half windows of 64 images are drawn, and fewer "
        f"than {SHARE} times 64 would give nearly the same window again and again."
    )


def count_codes(tokens: NDArray[Any], manifest: Manifest) -> NDArray[np.int64]:
    """How often each code stands in tokens (n, h, w[, depth]): (K,) or (depth, K)."""
    levels = tokens.reshape(-1, manifest.depth).T
    counts = [np.bincount(level, minlength=manifest.codebook_size) for level in levels]
    return np.stack(counts) if manifest.depth > 1 else counts[0]


def write_calibrated(
    bundle: Bundle,
    calibration: Calibration,
    origin: dict[str, Any],
    output: Path,
    *,
    overwrite: bool = False,
) -> Manifest:
    """Write a copy of the bundle that holds the calibration, in one step as seen from outside.

    Tokens and pictures stay what they are, so both ids do, and so do the counts of training tokens,
    from which samples are drawn; `reference.npz`, and with it the digests, are new. The manifest's
    provenance says in `calibration` how many images it was made from, and `origin`.

    Raises:
        FileExistsError: `output` exists and `overwrite` is False.
    """
    files = {name: bundle.read(name) for name in bundle.manifest.digests}
    files[REFERENCE_FILE] = with_calibration(bundle.reference, calibration).to_npz()
    said = {
        **origin,
        "reference_images": calibration.reference_images,
        "null_images": calibration.null_images,
        "window_images": list(calibration.null.range),
    }
    manifest = _with_provenance(bundle.manifest, said)
    write_bundle(output, manifest, files, replace=overwrite)
    return Bundle.open(output).manifest


def with_calibration(reference: Reference, calibration: Calibration) -> Reference:
    """The reference with the calibration's arrays in place of those it may have had."""
    return replace(reference.with_drift_null(calibration.null), drift_usage=calibration.usage)


def _with_provenance(manifest: Manifest, said: dict[str, Any]) -> Manifest:
    return replace(manifest, provenance={**manifest.provenance, "calibration": said})


def joined(batches: Sequence[TokenBatch]) -> TokenBatch:
    """The items of several batches of one model, in order."""
    items = tuple(item for batch in batches for item in batch.items)
    return replace(batches[0], items=items)
