"""The batch of each step, as a function of (seed, step, index): its samples, their augmentation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.data import Part

_SHUFFLE, _FLIP = 1, 2


class Batch(NamedTuple):
    """pixels (B, H, W, 3) uint8; sample_indices (B,) int64, places in the data set."""

    pixels: Tensor
    sample_indices: Tensor


@dataclass(frozen=True)
class BatchPlan:
    """Which samples a step takes: each epoch is a permutation, cut into whole batches."""

    num_images: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return self.num_images // self.batch_size

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return _generator(self.seed, _SHUFFLE, epoch).permutation(self.num_images)

    def from_step(self, start: int, stop: int) -> Iterator[list[tuple[int, int]]]:
        """(step, index) pairs of the batches of steps start..stop."""
        epoch, order = -1, np.empty(0, np.int64)
        for step in range(start, stop):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = self._permutation(epoch)
            first = step % self.steps_per_epoch * self.batch_size
            yield [(step, int(i)) for i in order[first : first + self.batch_size]]


def _generator(seed: int, purpose: int, *counters: int) -> np.random.Generator:
    """A generator made anew from its counters, so that nothing depends on earlier draws."""
    words = np.random.SeedSequence((seed, purpose, *counters)).generate_state(2, np.uint64)
    return np.random.Generator(np.random.Philox(key=words))


class _Samples(Dataset[tuple[NDArray[np.uint8], int]]):
    """Samples by (step, index)."""

    def __init__(self, images: Part, seed: int, flip: bool) -> None:
        self.images, self.seed, self.flip = images, seed, flip

    def __getitem__(self, place: tuple[int, int]) -> tuple[NDArray[np.uint8], int]:  # type: ignore[override]
        step, index = place
        image = self.images[index]
        if self.flip and _generator(self.seed, _FLIP, step, index).random() < 0.5:
            image = image[:, ::-1]
        return image, index


def _collate(samples: list[tuple[NDArray[np.uint8], int]]) -> Batch:
    pixels = np.stack([image for image, _ in samples])
    return Batch(torch.from_numpy(pixels), torch.tensor([index for _, index in samples]))


class _Steps:
    """The batches of steps start..stop, as DataLoader wants them."""

    def __init__(self, plan: BatchPlan, start: int, stop: int) -> None:
        self.plan, self.start, self.stop = plan, start, stop

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.plan.from_step(self.start, self.stop)

    def __len__(self) -> int:
        return self.stop - self.start


def training_batches(
    images: Part, plan: BatchPlan, steps: range, *, flip: bool, num_workers: int
) -> DataLoader[Batch]:
    """The batches of `steps`, the same for any number of workers and any interruption."""
    return DataLoader(  # type: ignore[return-value]
        _Samples(images, plan.seed, flip),  # type: ignore[arg-type]
        batch_sampler=_Steps(plan, steps.start, steps.stop),  # type: ignore[arg-type]
        collate_fn=_collate,
        num_workers=num_workers,
        # Workers of a fork server do not notice when the training itself is killed.
        multiprocessing_context="spawn" if num_workers else None,
    )


def whole_batches(images: Part, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """All images in order, (B, H, W, 3) uint8, the last batch as small as it comes."""
    for start in range(0, len(images), batch_size):
        stop = min(start + batch_size, len(images))
        yield np.stack([images[index] for index in range(start, stop)])


def to_pixels(images: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [0, 1], channels last in memory."""
    return images.permute(0, 3, 1, 2).float() / 255.0
