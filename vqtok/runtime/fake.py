"""An engine without a model, for tests of what stands around one: faults, delays, timing.

Shipped, because programs built on vqtok need the same seam.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import ModelFailure
from vqtok.identity import ContentId
from vqtok.manifest import ImageSpec, Manifest
from vqtok.runtime.engine import Encoded, require_images, require_tokens


class FakeEngine:
    """A token is the colour of its patch's first pixel, modulo K; a decoded patch has one colour.

    So `encode(decode(tokens)) == tokens` for depth 1. Quantisation error and posterior entropy,
    where the manifest's `outputs` have them, are that pixel's red and green, scaled to 0 .. 1.
    `delay_seconds` passes in every call, and a batch fails as a whole when `fail_on` is true of one
    of its items: an image (H, W, 3) or a grid of tokens. `batch_sizes` lists the batches in the
    order in which they began.
    """

    device = "cpu"

    def __init__(
        self,
        manifest: Manifest,
        *,
        delay_seconds: float = 0.0,
        fail_on: Callable[[NDArray[Any]], bool] | None = None,
        num_runners: int = 1,
        max_batch_images: int = 8,
    ) -> None:
        self.num_runners = num_runners
        self.max_batch_images = max_batch_images
        self.batch_sizes: list[int] = []
        self.closed = False
        self._manifest = manifest
        self._delay_seconds = delay_seconds
        self._fail_on = fail_on
        self._lock = threading.Lock()

    def encode(self, images: NDArray[np.uint8]) -> Encoded:
        factor = self._manifest.image.factor
        require_images(images, factor)
        self._begin(images)
        first = images[:, ::factor, ::factor].astype(np.int64)
        codes = first[..., 0] + 256 * first[..., 1] + 65536 * first[..., 2]
        if self._manifest.depth > 1:
            codes = codes[..., None] + np.arange(self._manifest.depth)
        tokens = (codes % self._manifest.codebook_size).astype(np.int32)
        measured = {
            name: (first[..., channel] / 255).astype(np.float32)
            for channel, name in enumerate(("quantisation_error", "posterior_entropy"))
            if name in self._manifest.outputs
        }
        return Encoded(tokens, np.ones(tokens.shape[:3], np.float32), **measured)

    def decode(self, tokens: NDArray[np.int32]) -> NDArray[np.uint8]:
        require_tokens(tokens, self._manifest.depth)
        self._begin(tokens)
        codes = tokens[..., 0] if self._manifest.depth > 1 else tokens
        patches = np.stack([codes & 255, codes >> 8 & 255, codes >> 16 & 255], axis=-1)
        factor = self._manifest.image.factor
        return patches.astype(np.uint8).repeat(factor, axis=1).repeat(factor, axis=2)

    def close(self) -> None:
        self.closed = True

    def _begin(self, batch: NDArray[Any]) -> None:
        with self._lock:
            self.batch_sizes.append(len(batch))
        if self._delay_seconds:
            time.sleep(self._delay_seconds)
        if self._fail_on is not None and any(self._fail_on(item) for item in batch):
            raise ModelFailure("The fake engine was told to fail on this item.")


def fake_manifest(**changes: Any) -> Manifest:
    """A small valid manifest, 16x16 images in a 4x4 grid of 256 codes, with fields changed."""
    manifest = Manifest(
        name="fake",
        version="1",
        method="fake",
        image=ImageSpec(channels=3, factor=4, native_size=(16, 16)),
        grid=(4, 4),
        depth=1,
        codebook_size=256,
        code_dim=2,
        outputs=("tokens", "margins"),
        precision="fp32",
        encoder_halo=0,
        decoder_halo=0,
        codebook_id=ContentId("c0" * 32),
        tokenizer_id=ContentId("70" * 32),
    )
    return replace(manifest, **changes)
