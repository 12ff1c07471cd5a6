"""The fake engine keeps the contract of a real one."""

from typing import Any

import numpy as np
import pytest

from vqtok.errors import InvalidInput, ModelFailure
from vqtok.runtime.engine import Engine
from vqtok.runtime.fake import FakeEngine, fake_manifest
from vqtok.runtime.tiles import decode_tiled, encode_tiled, plan_decode, plan_encode

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("codes", [256, 70_000])
def test_encoding_a_decoded_grid_gives_it_back(codes: int) -> None:
    engine: Engine = FakeEngine(fake_manifest(codebook_size=codes))
    tokens = RNG.integers(0, codes, (3, 5, 2), dtype=np.int32)
    pictures = engine.decode(tokens)
    assert pictures.shape == (3, 20, 8, 3)
    assert np.array_equal(engine.encode(pictures).tokens, tokens)


def test_depth_is_the_last_axis_of_the_tokens() -> None:
    engine = FakeEngine(fake_manifest(depth=2, grid=(4, 4, 2)))
    encoded = engine.encode(RNG.integers(0, 255, (1, 8, 8, 3), dtype=np.uint8))
    assert encoded.tokens.shape == (1, 2, 2, 2)
    assert encoded.margins.shape == (1, 2, 2)
    assert engine.decode(encoded.tokens).shape == (1, 8, 8, 3)


def test_it_fails_on_the_item_that_it_was_told_to_fail_on_and_notes_its_batches() -> None:
    engine = FakeEngine(fake_manifest(), fail_on=lambda item: bool(item.max() == 255))
    images = np.zeros((2, 8, 8, 3), np.uint8)
    engine.encode(images)
    images[1] = 255
    with pytest.raises(ModelFailure):
        engine.encode(images)
    assert engine.batch_sizes == [2, 2]


def test_it_refuses_what_a_real_engine_refuses() -> None:
    wrong: Any = np.zeros((1, 2, 2), np.int64)
    engine = FakeEngine(fake_manifest())
    with pytest.raises(InvalidInput):
        engine.encode(np.zeros((1, 6, 8, 3), np.uint8))
    with pytest.raises(InvalidInput):
        engine.decode(wrong)


def test_its_tiles_are_those_of_the_whole() -> None:
    engine = FakeEngine(fake_manifest())
    image = RNG.integers(0, 255, (64, 48, 3), dtype=np.uint8)
    encoded = encode_tiled(engine.encode, image, plan_encode((64, 48), 4, 0, 300), 3)
    assert np.array_equal(encoded.tokens, engine.encode(image[None]).tokens)
    picture = decode_tiled(engine.decode, encoded.tokens[0], plan_decode((16, 12), 4, 0, 300))
    assert np.array_equal(picture, engine.decode(encoded.tokens)[0])
