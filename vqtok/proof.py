"""Proof that a bundle's graphs compute what they computed at export.

A digest that was recomputed hides a changed weight, and a golden image alone hides many: it uses
few codes and leaves channels dark. So there is a probe beside it: a picture of noise at several
scales, whose margins are compared, and a grid of all codes, whose picture is. Both are made by
arithmetic; only the answers are kept in the bundle.
"""

from dataclasses import replace
from math import isqrt, prod

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import BundleCorrupt
from vqtok.reference import Reference
from vqtok.runtime.engine import Engine

ENCODER_FILE = "encoder.onnx"
DECODER_FILE = "decoder.onnx"

MARGIN_TOLERANCE = 2e-4
"""Two builds of one graph were seen to differ by 5e-6 in the probe, PyTorch and ONNX by 3e-5."""
ROUNDING_SHARE = 2e-4
ROUNDING_BYTES = 3
"""Bytes that may differ by one: kernels of two machines round about one in 100,000 differently. A
damaged weight moves many more, often by no more than one."""

PROBE_PIXELS = 128
PROBE_CELLS = 32
MOST_PROBE_PIXELS = 256
MIXING_PRIME = 1_000_003


def golden_check(engine: Engine, reference: Reference) -> None:
    """Prove both graphs on the golden image, and on the probe where the bundle holds its answers.

    The golden image must give the golden tokens, margins must lie within 2e-4; the golden tokens
    must give the golden reconstruction, no byte off by more than one and next to none off at all.

    Raises:
        BundleCorrupt: naming encoder.onnx or decoder.onnx and the difference.
    """
    encoded = engine.encode(reference.golden_image[None])
    _compare_tokens(encoded.tokens[0], reference.golden_tokens)
    _compare_margins(encoded.margins[0], reference.golden_margins, "the golden image")
    pixels = engine.decode(reference.golden_tokens[None])[0]
    _compare_pixels(pixels, reference.golden_reconstruction, "the golden tokens")
    if reference.probe_margins is not None:
        margins = engine.encode(probe_image(reference)[None]).margins[0]
        _compare_margins(margins, reference.probe_margins, "the probe")
    if reference.probe_pixels is not None:
        pixels = engine.decode(probe_tokens(reference)[None])[0]
        _compare_pixels(pixels, reference.probe_pixels, "the probe")


def with_probe(engine: Engine, reference: Reference) -> Reference:
    """The reference with the probe's answers of an engine; for whoever writes a bundle."""
    return replace(
        reference,
        probe_margins=engine.encode(probe_image(reference)[None]).margins[0],
        probe_pixels=engine.decode(probe_tokens(reference)[None])[0],
    )


def probe_image(reference: Reference) -> NDArray[np.uint8]:
    """uint8 (H, W, 3): quarters of noise in grains of 1, 4 and 16 pixels, and their mean."""
    factor = len(reference.golden_image) // len(reference.golden_tokens)
    side = -(-PROBE_PIXELS // factor) * factor
    fine, middle, coarse = (_noise(side, grain) for grain in (1, 4, 16))
    image, half = fine.copy(), side // 2
    image[:half, half:] = middle[:half, half:]
    image[half:, :half] = coarse[half:, :half]
    mean = (fine.astype(np.uint16) + middle + coarse) // 3
    image[half:, half:] = mean[half:, half:]
    return image


def probe_tokens(reference: Reference) -> NDArray[np.int32]:
    """int32 (h, w[, depth]): all codes in a mixed order, or as many as there is room for, spread
    evenly.
    """
    factor = len(reference.golden_image) // len(reference.golden_tokens)
    num_codes, tail = reference.usage.shape[-1], reference.golden_tokens.shape[2:]
    most = max(1, min(PROBE_CELLS, MOST_PROBE_PIXELS // factor))
    side = min(most, isqrt(num_codes - 1) + 1)
    num_cells = side * side
    # A step that shares no divisor with the number of cells visits every one of them.
    places = np.arange(num_cells, dtype=np.int64)[:, None] * MIXING_PRIME
    shifted = (places + 7 * np.arange(prod(tail))) % num_cells
    codes = shifted * num_codes // num_cells
    return codes.astype(np.int32).reshape(side, side, *tail)


def _noise(side: int, grain: int) -> NDArray[np.uint8]:
    """Squares of `grain` pixels in random colours, from bits that numpy will never change."""
    squares = -(-side // grain)
    words = np.random.Philox(key=[grain, 0]).random_raw(squares * squares * 3)
    colours = (words >> np.uint64(56)).astype(np.uint8).reshape(squares, squares, 3)
    return colours.repeat(grain, axis=0).repeat(grain, axis=1)[:side, :side]


def _compare_tokens(tokens: NDArray[np.int32], expected: NDArray[np.int32]) -> None:
    if tokens.shape != expected.shape:
        raise BundleCorrupt(
            f"{ENCODER_FILE} gives the golden image a grid of {tokens.shape}, not {expected.shape}."
        )
    wrong = int((tokens != expected).sum())
    if wrong:
        raise BundleCorrupt(
            f"{ENCODER_FILE} gives the golden image other tokens than at export "
            f"({wrong} of {expected.size}): its weights or its channel order have changed."
        )


def _compare_margins(
    margins: NDArray[np.float32], expected: NDArray[np.float32], what: str
) -> None:
    if margins.shape != expected.shape:
        raise BundleCorrupt(
            f"{ENCODER_FILE} gives {what} a grid of {margins.shape}, not {expected.shape}."
        )
    difference = np.abs(margins - expected)
    # Written so that a margin that is not a number fails too.
    if not bool(np.all(difference <= MARGIN_TOLERANCE)):
        raise BundleCorrupt(
            f"{ENCODER_FILE} gives {what} other margins than at export (off by "
            f"{float(difference.max()):.2g}): its weights or its channel order have changed."
        )


def _compare_pixels(pixels: NDArray[np.uint8], expected: NDArray[np.uint8], what: str) -> None:
    if pixels.shape != expected.shape:
        raise BundleCorrupt(
            f"{DECODER_FILE} gives {what} a picture of {pixels.shape}, not {expected.shape}."
        )
    difference = np.abs(pixels.astype(np.int16) - expected)
    moved = int((difference > 0).sum())
    if difference.max() > 1 or moved > max(ROUNDING_BYTES, ROUNDING_SHARE * expected.size):
        raise BundleCorrupt(
            f"{DECODER_FILE} gives {what} another picture than at export ({moved} of "
            f"{expected.size} bytes differ, by up to {difference.max()}): its weights or its "
            "channel order have changed."
        )
