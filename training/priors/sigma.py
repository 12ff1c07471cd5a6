"""The noise that GM-VQ puts around a code, measured on what a bundle's encoder leaves over."""

import torch

from models import load
from models.precision import exact_float32
from training.data import Part, load_splits
from training.data.batches import to_pixels, whole_batches
from training.priors.settings import PriorSettings
from training.progress import with_bar

IMAGES = 2_000
_BATCH = 100


@torch.no_grad()
def mixture_sigma(settings: PriorSettings) -> float:
    """σ of σ² = mean |ẑ - e_c|² / (two_sigma2 D) (GM-VQ, arXiv 2410.10180, equation 18), one for
    all codes, over the first training images.

    A bundle holds no σ: the equation makes it anew for each token from the encoder's vector ẑ, and
    its mean is what latents without an image can have. Quantizers of other kinds have no
    two_sigma2; with 1 it is the Gaussian noise under which their leftovers are likeliest.
    """
    model = load(settings.bundle)
    train = load_splits(settings.data).train
    part = Part(train.images, train.start, min(train.stop, train.start + IMAGES))
    squares, count = 0.0, 0
    batches = whole_batches(part, _BATCH)
    for batch in with_bar("noise of the codes", batches, -(-len(part) // _BATCH)):
        head = model.encoder(to_pixels(torch.from_numpy(batch)))
        with exact_float32():
            quantized = model.quantizer(head, None)
        left = (quantized.z_e - quantized.z_q).double()
        squares, count = squares + float(left.square().sum()), count + left.numel()
    return (squares / count / float(getattr(model.quantizer, "two_sigma2", 1.0))) ** 0.5
