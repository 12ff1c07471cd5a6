"""Images that are read and decoded one by one, by worker processes where asked for."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from training.data import Part
from training.data.batches import Batch, BatchPlan

Sample = tuple[NDArray[np.uint8], int]


class LoadedImages:
    """Batches by torch's DataLoader."""

    def __init__(self, images: Part, device: torch.device) -> None:
        self.images, self.device = images, device

    def batches(self, plan: BatchPlan, steps: range, num_workers: int) -> Iterator[Batch]:
        """The plan's batches, the same for any number of workers."""
        loader: DataLoader[Batch] = DataLoader(
            _Samples(self.images),  # type: ignore[arg-type]
            batch_sampler=_Steps(plan, steps),  # type: ignore[arg-type]
            collate_fn=_collate,
            num_workers=num_workers,
            pin_memory=self.device.type == "cuda",
            # Workers of a fork server do not notice when the training itself is killed.
            multiprocessing_context="spawn" if num_workers else None,
        )
        for batch in loader:
            yield Batch(*(tensor.to(self.device, non_blocking=True) for tensor in batch))


class _Samples(Dataset[Sample]):
    def __init__(self, images: Part) -> None:
        self.images = images

    def __getitem__(self, index: int) -> Sample:
        return self.images[index], index


def _collate(samples: list[Sample]) -> Batch:
    pixels = np.stack([image for image, _ in samples])
    return Batch(torch.from_numpy(pixels), torch.tensor([index for _, index in samples]))


class _Steps:
    """The samples of each step, as DataLoader wants them."""

    def __init__(self, plan: BatchPlan, steps: range) -> None:
        self.plan, self.steps = plan, steps

    def __iter__(self) -> Iterator[list[int]]:
        for _, indices in self.plan.from_step(self.steps.start, self.steps.stop):
            yield indices.tolist()

    def __len__(self) -> int:
        return len(self.steps)
