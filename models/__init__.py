"""PyTorch models of discrete image tokenizers: networks, quantizers, and their files."""

from models.autoencoder import Autoencoder, ModelSettings, Reconstruction
from models.networks import NetworkSettings
from models.randomness import Noise, Progress
from models.storage import load

__all__ = [
    "Autoencoder",
    "ModelSettings",
    "NetworkSettings",
    "Noise",
    "Progress",
    "Reconstruction",
    "load",
]
