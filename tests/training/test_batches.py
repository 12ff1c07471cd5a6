"""Batches: every epoch a permutation, every sample a function of (seed, step, index)."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import training.data.resident
from tests.training.tiny import smooth_images
from training.data import Part
from training.data.batches import (
    Batch,
    BatchPlan,
    mirrored,
    to_pixels,
    training_batches,
    whole_batches,
)
from training.data.loaded import LoadedImages
from training.data.resident import ResidentImages
from training.data.sources import open_source

Pixels = NDArray[np.uint8]


def part(count: int) -> Part:
    return Part(smooth_images(count), 0, count)


def batches_of(
    plan: BatchPlan, images: Part, steps: range, *, flip: bool = True, num_workers: int = 0
) -> list[Batch]:
    source = open_source(images, torch.device("cpu"))
    return list(training_batches(source, plan, steps, flip=flip, num_workers=num_workers))


def listed(count: int) -> Part:
    """The images of `part`, one by one as a folder gives them."""
    return Part(list(smooth_images(count)), 0, count)


@pytest.mark.parametrize(("num_images", "batch_size"), [(48, 8), (50, 8), (7, 7), (9, 1)])
def test_every_epoch_takes_no_image_twice_and_whole_batches_only(
    num_images: int, batch_size: int
) -> None:
    plan = BatchPlan(num_images, batch_size, seed=1)
    assert plan.steps_per_epoch == num_images // batch_size
    for epoch in range(3):
        first = epoch * plan.steps_per_epoch
        batches = list(plan.from_step(first, first + plan.steps_per_epoch))
        assert {len(batch) for _, batch in batches} == {batch_size}
        indices = [index for _, batch in batches for index in batch.tolist()]
        assert len(set(indices)) == len(indices) == plan.steps_per_epoch * batch_size
        assert set(indices) <= set(range(num_images))


def test_each_batch_names_its_step() -> None:
    plan = BatchPlan(20, 8, seed=0)
    assert [step for step, _ in plan.from_step(1, 7)] == list(range(1, 7))


@pytest.mark.parametrize("num_processes", [2, 4])
def test_the_shares_of_all_processes_are_the_batch_in_order(num_processes: int) -> None:
    whole = BatchPlan(50, 8, seed=2)
    shares = [
        BatchPlan(50, 8, 2, rank, num_processes).from_step(3, 15) for rank in range(num_processes)
    ]
    for (step, batch), *parts in zip(whole.from_step(3, 15), *shares, strict=True):
        assert {part_step for part_step, _ in parts} == {step}
        assert {len(part) for _, part in parts} == {8 // num_processes}
        assert np.concatenate([part for _, part in parts]).tolist() == batch.tolist()


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [
        tuple(next(BatchPlan(64, 64, seed).from_step(epoch, epoch + 1))[1].tolist())
        for seed, epoch in itertools.product(range(3), range(3))
    ]
    assert len(set(orders)) == 9


@pytest.mark.parametrize("start", range(13))
def test_a_plan_that_starts_late_is_the_tail_of_the_whole(start: int) -> None:
    plan = BatchPlan(50, 12, seed=4)
    tail, whole = ([i.tolist() for _, i in plan.from_step(s, 13)] for s in (start, 0))
    assert tail == whole[start:]


def test_a_batch_holds_the_images_that_its_indices_name() -> None:
    images = Part(smooth_images(40), 8, 40)
    plan = BatchPlan(32, 8, seed=0)
    for batch in batches_of(plan, images, range(4), flip=False):
        for image, index in zip(batch.pixels.numpy(), batch.sample_indices.tolist(), strict=True):
            assert np.array_equal(image, images[index])


def flips_of(seed: int, steps: range, num_images: int = 64) -> dict[tuple[int, int], bool]:
    """Whether the sample (step, index) was mirrored."""
    images = part(num_images)
    plan = BatchPlan(num_images, 8, seed)
    flips: dict[tuple[int, int], bool] = {}
    for step, batch in zip(steps, batches_of(plan, images, steps), strict=True):
        for image, index in zip(batch.pixels.numpy(), batch.sample_indices.tolist(), strict=True):
            mirrored = np.array_equal(image, images[index][:, ::-1])
            assert mirrored or np.array_equal(image, images[index])
            flips[step, index] = mirrored
    return flips


def test_about_half_of_the_samples_are_mirrored_and_nothing_else_is_done() -> None:
    flips = flips_of(0, range(160))
    assert len(flips) == 1_280
    assert 0.45 < np.mean(list(flips.values())) < 0.55


def test_a_mirroring_depends_on_seed_step_and_index_alone() -> None:
    whole = flips_of(0, range(24))
    assert flips_of(0, range(11, 24)) == {k: v for k, v in whole.items() if k[0] >= 11}
    other = flips_of(1, range(24))
    both = whole.keys() & other.keys()
    assert 0.3 < np.mean([whole[k] == other[k] for k in both]) < 0.7


def test_an_image_is_mirrored_in_some_epochs_and_not_in_others() -> None:
    flips = flips_of(0, range(80))
    for image in range(64):
        assert {flipped for (_, index), flipped in flips.items() if index == image} == {
            False,
            True,
        }


def test_flip_off_mirrors_nothing() -> None:
    plan = BatchPlan(16, 8, 0)
    images = part(16)
    for batch in batches_of(plan, images, range(20), flip=False):
        expected = np.stack([images[i] for i in batch.sample_indices.tolist()])
        assert np.array_equal(batch.pixels.numpy(), expected)


def assert_equal(some: list[Batch], others: list[Batch]) -> None:
    assert len(some) == len(others) > 0
    for one, other in zip(some, others, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.sample_indices, other.sample_indices)


@pytest.mark.slow
def test_workers_change_no_batch() -> None:
    plan, images = BatchPlan(48, 8, seed=2), listed(48)
    alone = batches_of(plan, images, range(2, 14))
    assert_equal(alone, batches_of(plan, images, range(2, 14), num_workers=2))


@pytest.mark.parametrize("plan", [BatchPlan(48, 8, seed=2), BatchPlan(48, 8, 2, 1, 2)])
def test_images_in_memory_and_images_read_one_by_one_give_the_same_batches(
    plan: BatchPlan,
) -> None:
    resident = open_source(part(48), torch.device("cpu"))
    loaded = open_source(listed(48), torch.device("cpu"))
    assert isinstance(resident, ResidentImages)
    assert isinstance(loaded, LoadedImages)
    some, others = (
        list(training_batches(source, plan, range(2, 14), flip=True))
        for source in (resident, loaded)
    )
    assert_equal(some, others)


def test_images_in_memory_are_not_copied() -> None:
    images = smooth_images(8)
    source = ResidentImages(images, torch.device("cpu"))
    assert source.images.data_ptr() == images.ctypes.data


def test_images_that_a_device_has_no_room_for_stay_in_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A quarter of what is free is theirs; the "meta" device stands for one with that much."""
    images, place = smooth_images(8), torch.device("meta")
    free = 4.0 * images.nbytes
    monkeypatch.setattr(training.data.resident, "free_bytes", lambda device: free)
    assert ResidentImages(images, place).images.device.type == "meta"
    monkeypatch.setattr(training.data.resident, "free_bytes", lambda device: free - 1.0)
    assert ResidentImages(images, place).images.device.type == "cpu"


def test_a_mirroring_is_that_of_the_sample_alone() -> None:
    """Whatever else is in its batch, and in whichever process."""
    images = torch.from_numpy(smooth_images(12))
    whole = mirrored(Batch(images, torch.arange(12)), seed=5, step=7)
    for index in range(12):
        alone = mirrored(Batch(images[index : index + 1], torch.tensor([index])), seed=5, step=7)
        assert torch.equal(alone.pixels[0], whole.pixels[index])


@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
def test_whole_batches_hold_all_images_in_order(batch_size: int) -> None:
    images = Part(smooth_images(12), 2, 12)
    batches = list(whole_batches(images, batch_size))
    assert np.array_equal(np.concatenate(batches), smooth_images(12)[2:])
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}


def test_pixels_lie_in_0_to_1_with_channels_second() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(2, 4, 6, 1)
    pixels = to_pixels(images)
    assert pixels.shape == (2, 3, 4, 6)
    assert pixels.dtype == torch.float32
    assert pixels[0, :, 0, 0].tolist() == pytest.approx([0.0, 0.2, 1.0])
    assert pixels.is_contiguous(memory_format=torch.channels_last)
