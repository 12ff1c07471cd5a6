"""The CUDA engine. What can be planned is tested anywhere; the rest needs an NVIDIA GPU."""

from pathlib import Path

import numpy as np
import pytest

from tests.vqtok.tiny_bundle import smooth_images, write_tiny_bundle
from vqtok.bundle import Bundle, golden_check
from vqtok.runtime.cuda import BATCH_PIXELS, MAX_BATCH_IMAGES, largest_bucket
from vqtok.runtime.engine import Engine
from vqtok.runtime.onnx import open_engine


def test_the_largest_prepared_batch_is_bounded_in_images_and_pixels() -> None:
    assert largest_bucket((32, 32)) == MAX_BATCH_IMAGES
    assert largest_bucket((256, 256)) == BATCH_PIXELS // 256**2
    assert largest_bucket((4096, 4096)) == 1


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return open_engine(bundle, "cuda", graph_sizes=[(64, 48)])


@pytest.mark.gpu
def test_the_golden_image_comes_out_as_at_export(bundle: Bundle, engine: Engine) -> None:
    assert engine.device == "cuda"
    golden_check(engine, bundle.reference)


@pytest.mark.gpu
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 100, 300])
@pytest.mark.parametrize("size", [(32, 32), (64, 48), (20, 84)])
def test_buckets_and_unprepared_sizes_give_the_tokens_of_the_cpu(
    bundle: Bundle, engine: Engine, count: int, size: tuple[int, int]
) -> None:
    images = smooth_images(count, *size)
    cpu = open_engine(bundle, "cpu").encode(images)
    encoded = engine.encode(images)
    different = encoded.tokens != cpu.tokens
    assert (cpu.margins[different] < 1e-4).all()
    pictures = engine.decode(cpu.tokens).astype(int)
    assert np.abs(pictures - open_engine(bundle, "cpu").decode(cpu.tokens)).max() <= 1


@pytest.mark.gpu
def test_a_captured_graph_sees_each_new_input(engine: Engine) -> None:
    """A graph replayed on stale addresses would answer the first image for ever."""
    images = smooth_images(8, 32, 32)
    batch = engine.encode(images).tokens
    for index in range(8):
        assert np.array_equal(engine.encode(images[index : index + 1]).tokens[0], batch[index])


@pytest.mark.gpu
def test_auto_takes_the_gpu_that_is_there(tmp_path: Path) -> None:
    assert open_engine(Bundle.open(write_tiny_bundle(tmp_path)), "auto").device == "cuda"
