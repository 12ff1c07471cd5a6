"""Where the images of a step come from."""

import numpy as np
import torch

from training.data import Part
from training.data.batches import Source
from training.data.loaded import LoadedImages
from training.data.resident import ResidentImages


def open_source(images: Part, device: torch.device) -> Source:
    """Images that are one array stay on the device; others are loaded one by one."""
    if isinstance(images.images, np.ndarray):
        return ResidentImages(images.images[images.start : images.stop], device)
    return LoadedImages(images, device)
