"""The batch of each step, as a function of (seed, step, index): its samples, their augmentation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import Noise
from training.data import Part

_SHUFFLE = 1
# Far from the streams that models draw from.
FLIP_STREAM = 1 << 20


class Batch(NamedTuple):
    """pixels (B, H, W, 3) uint8; sample_indices (B,) int64, places in the data set."""

    pixels: Tensor
    sample_indices: Tensor


@dataclass(frozen=True)
class BatchPlan:
    """Which samples a step takes: each epoch is a permutation, cut into whole batches.

    Of several processes each takes its part of every batch, in the order of the ranks; batch_size
    counts the whole batch and is a multiple of num_processes.
    """

    num_images: int
    batch_size: int
    seed: int
    rank: int = 0
    num_processes: int = 1

    @property
    def steps_per_epoch(self) -> int:
        return self.num_images // self.batch_size

    @property
    def share(self) -> int:
        """Samples that one process takes in a step."""
        return self.batch_size // self.num_processes

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return _generator(self.seed, _SHUFFLE, epoch).permutation(self.num_images)

    def from_step(self, start: int, stop: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """The steps start..stop, each with the indices of this process's samples."""
        epoch, order = -1, np.empty(0, np.int64)
        for step in range(start, stop):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = self._permutation(epoch)
            first = step % self.steps_per_epoch * self.batch_size + self.rank * self.share
            yield step, order[first : first + self.share]


def _generator(seed: int, purpose: int, *counters: int) -> np.random.Generator:
    """A generator made anew from its counters, so that nothing depends on earlier draws."""
    words = np.random.SeedSequence((seed, purpose, *counters)).generate_state(2, np.uint64)
    return np.random.Generator(np.random.Philox(key=words))


class Source(Protocol):
    """Where the images of a step come from. Batches are on the device, as they were stored."""

    def batches(self, plan: BatchPlan, steps: range, num_workers: int) -> Iterator[Batch]: ...


def training_batches(
    source: Source, plan: BatchPlan, steps: range, *, flip: bool, num_workers: int = 0
) -> Iterator[Batch]:
    """The batches of `steps`, the same for any source, number of workers and interruption."""
    for step, batch in zip(steps, source.batches(plan, steps, num_workers), strict=True):
        yield mirrored(batch, plan.seed, step) if flip else batch


def mirrored(batch: Batch, seed: int, step: int) -> Batch:
    """The batch with each sample mirrored left to right or not, by a toss of its own."""
    toss = Noise(seed, step, batch.sample_indices).uniform(FLIP_STREAM, 1)
    heads = (toss < 0.5).view(-1, 1, 1, 1)
    return batch._replace(pixels=torch.where(heads, batch.pixels.flip(2), batch.pixels))


def whole_batches(images: Part, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """All images in order, (B, H, W, 3) uint8, the last batch as small as it comes."""
    for start in range(0, len(images), batch_size):
        stop = min(start + batch_size, len(images))
        yield np.stack([images[index] for index in range(start, stop)])


def to_pixels(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) in [0, 1], channels last in memory."""
    return images.permute(0, 3, 1, 2).to(dtype) / 255.0
