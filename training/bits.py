"""How many bits the tokens of held-out images take by each coder."""

from typing import Any

import numpy as np

from training.data import Part
from training.data.batches import whole_batches
from training.progress import with_bar
from vqtok.bitstream import CoderTables, Coding, CodingPrior, bits_per_image
from vqtok.manifest import Manifest
from vqtok.reference import Reference
from vqtok.runtime.engine import Engine

BATCH = 100
LINE = "Bits an image"


def measure_bits(
    engine: Engine,
    manifest: Manifest,
    reference: Reference,
    images: Part,
    prior: CodingPrior | None = None,
) -> dict[str, Any]:
    """Mean bits an image by the names of `vqtok.bitstream.RATES`, of those that apply, under the
    learned `prior` if there is one; `pixels` of an image and the number of `images`.
    """
    coding = Coding(manifest.codebook_size, manifest.depth, CoderTables.of(reference), prior)
    bits: dict[str, list[float]] = {}
    batches = whole_batches(images, BATCH)
    for batch in with_bar("bits", batches, -(-len(images) // BATCH)):
        for rates in bits_per_image(list(engine.encode(batch).tokens), coding):
            for name, rate in rates.items():
                if rate.bits is not None:
                    bits.setdefault(name, []).append(rate.bits)
    height, width = manifest.image.native_size
    means = {name: float(np.mean(each)) for name, each in bits.items()}
    return {"images": len(images), "pixels": height * width, **means}


def bits_sentence(manifest: Manifest) -> str:
    """What the card says of them; empty where nothing was measured."""
    bits = manifest.metrics.get("bits", {})
    coders = [name for name in bits if name not in ("images", "pixels")]
    if not coders:
        return ""
    each = ", ".join(
        f"{name} {bits[name]:.1f} ({bits[name] / bits['pixels']:.3f} a pixel)" for name in coders
    )
    return f"{LINE}, over {bits['images']:,} held-out images, by the coders of bitstreams: {each}."
