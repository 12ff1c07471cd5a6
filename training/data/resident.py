"""Images that stay in the device's memory: a batch is one gather there."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.batches import Batch, BatchPlan

LARGEST_SHARE = 0.25
"""Of the device's free memory; the rest is for the training itself."""


class ResidentImages:
    """uint8 images (N, H, W, 3), on `device` where they take at most a quarter of what is free.

    Else they stay in the machine's memory, and each batch is copied.
    """

    def __init__(self, images: NDArray[np.uint8], device: torch.device) -> None:
        self.device = device
        home = device if images.nbytes <= LARGEST_SHARE * free_bytes(device) else "cpu"
        self.images = torch.from_numpy(images).to(home)

    def batches(self, plan: BatchPlan, steps: range, num_workers: int) -> Iterator[Batch]:
        """The plan's batches. There is nothing to do for workers."""
        for _, indices in plan.from_step(steps.start, steps.stop):
            chosen = torch.from_numpy(indices)
            pixels = self.images[chosen.to(self.images.device)]
            yield Batch(pixels.to(self.device), chosen.to(self.device))


def free_bytes(device: torch.device) -> float:
    """Memory of a GPU that is free; unbounded on a CPU, where the images lie already."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
