"""How many rows run together, on each kind of device."""

import pytest

from service.batch_limits import ENCODE_ALONE, BatchLimits
from service.costs import CostModel
from service.passes import REVEAL
from vqtok.runtime.fake import FakeEngine, fake_manifest

MANIFEST = fake_manifest()
PIXEL_SECONDS = 1e-5


class OnGpu(FakeEngine):
    device = "cuda"


def _limits(engine: FakeEngine, batch_pixels: int, loop_seconds: float = 0.01) -> BatchLimits:
    costs = CostModel({"encode": PIXEL_SECONDS, "decode": PIXEL_SECONDS, "sample": 0.001})
    return BatchLimits(
        engine, MANIFEST, costs, batch_pixels=batch_pixels, loop_seconds=loop_seconds
    )


def test_batches_are_small_on_several_cores_and_none_runs_on_the_loop() -> None:
    limits = _limits(FakeEngine(MANIFEST, max_batch_images=8, num_runners=2), 1024)
    assert limits.in_thread("encode", (16, 16, 3)) == 4
    assert limits.in_thread("decode", (4, 4)) == 4
    assert limits.in_thread("encode", (4, 4, 3)) == 8
    assert limits.in_thread("encode", (512, 512, 3)) == 1
    assert limits.in_thread(ENCODE_ALONE, (4, 4, 3)) == 1
    assert limits.on_loop("encode", (4, 4, 3)) == 0


def test_they_are_what_warm_up_proved_on_a_gpu() -> None:
    limits = _limits(OnGpu(MANIFEST, max_batch_images=64), 1024)
    assert limits.in_thread("encode", (16, 16, 3)) == 64
    assert limits.in_thread("encode", (32, 32, 3)) == 16
    assert limits.on_loop("encode", (16, 16, 3)) == 0


@pytest.mark.parametrize(
    ("side", "in_thread", "on_loop"),
    [(4, 64, 62), (8, 64, 15), (16, 39, 3), (32, 9, 0), (128, 4, 0)],
)
def test_on_one_core_the_loop_has_the_short_ones_and_the_thread_larger_batches(
    side: int, in_thread: int, on_loop: int
) -> None:
    limits = _limits(FakeEngine(MANIFEST, max_batch_images=8, num_runners=1), 65_536)
    assert limits.in_thread("encode", (side, side, 3)) == in_thread
    assert limits.on_loop("encode", (side, side, 3)) == on_loop
    assert limits.in_thread("decode", (side // 4, side // 4)) == in_thread
    assert limits.in_thread(REVEAL, (1,)) == 8


def test_a_thread_that_has_everything_to_itself_keeps_small_batches() -> None:
    limits = _limits(FakeEngine(MANIFEST, max_batch_images=8, num_runners=1), 65_536, 0.0)
    assert limits.in_thread("encode", (8, 8, 3)) == 8
    assert limits.on_loop("encode", (8, 8, 3)) == 0
