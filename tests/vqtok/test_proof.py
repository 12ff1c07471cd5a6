"""The probe: inputs that reach what a golden image leaves dark, the same for ever."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.vqtok.tiny_bundle import write_tiny_bundle
from vqtok.bundle import Bundle
from vqtok.proof import probe_image, probe_tokens
from vqtok.reference import Reference


def reference(factor: int, depth: int, codebook_size: int) -> Reference:
    """Zeros in the shapes of a model whose native size is 32 cells a side."""
    side, tail = 32 * factor, (depth,) if depth > 1 else ()
    return Reference(
        usage=np.zeros((*tail, codebook_size), np.int64),
        position_counts=np.zeros((32, 32, *tail, 1), np.uint32),
        golden_image=np.zeros((side, side, 3), np.uint8),
        golden_tokens=np.zeros((32, 32, *tail), np.int32),
        golden_margins=np.zeros((32, 32), np.float32),
        golden_reconstruction=np.zeros((side, side, 3), np.uint8),
    )


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("codebook_size", [2, 7, 512, 1000, 1024])
def test_every_code_stands_in_the_probe_at_every_depth(depth: int, codebook_size: int) -> None:
    tokens = probe_tokens(reference(4, depth, codebook_size))
    assert tokens.dtype == np.int32
    levels = tokens.reshape(-1, depth)
    for level in levels.T:
        assert np.array_equal(np.unique(level), np.arange(codebook_size))
    if depth > 1 and codebook_size > 7:
        assert (levels[:, 0] != levels[:, 1]).all()


def test_of_a_large_codebook_codes_from_all_of_it_stand_in_the_probe() -> None:
    tokens = probe_tokens(reference(16, 1, 65_536))
    assert tokens.shape == (16, 16)
    assert len(np.unique(tokens)) == 256
    assert np.diff(np.unique(tokens)).max() == 256


@pytest.mark.parametrize("factor", [2, 4, 8, 16, 32])
def test_the_image_has_sides_that_the_encoder_takes(factor: int) -> None:
    image = probe_image(reference(factor, 1, 16))
    assert image.dtype == np.uint8
    assert image.shape[0] == image.shape[1] >= 128
    assert image.shape[0] % factor == 0


def test_the_inputs_of_today_are_the_inputs_of_tomorrow() -> None:
    """The answers to them lie in bundles."""
    given = reference(4, 1, 1000)
    data = probe_image(given).tobytes() + probe_tokens(given).astype("<i4").tobytes()
    assert (
        hashlib.sha256(data).hexdigest()
        == "daa24465106c218273dc74c6739d32342edd05d5b1d368652991927ef9e98ec5"
    )


def test_a_bundle_keeps_the_answers(tmp_path: Path) -> None:
    kept = Bundle.open(write_tiny_bundle(tmp_path, factor=8, depth=2)).reference
    assert kept.probe_margins is not None
    assert kept.probe_margins.shape == (16, 16)
    assert kept.probe_pixels is not None
    assert kept.probe_pixels.shape == (48, 48, 3)
