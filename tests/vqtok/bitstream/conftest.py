"""The tokens of a hundred real images, and tables for them."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vqtok.bitstream.made import SHIPPED
from tests.vqtok.tiny_bundle import coder_arrays
from training.data.cifar10 import load_cifar10
from vqtok.bitstream import CoderTables
from vqtok.bundle import Bundle
from vqtok.runtime.onnx import open_engine


@pytest.fixture(scope="session")
def real_tokens(data_dir: Path) -> NDArray[np.uint16]:
    """(100, 8, 8): of the first test images of CIFAR-10, by the shipped bundle."""
    _, images = load_cifar10(data_dir / "cifar10")
    engine = open_engine(Bundle.open(SHIPPED), "cpu", num_threads=1)
    return engine.encode(images[:100]).tokens.astype(np.uint16)


@pytest.fixture(scope="session")
def real_tables(real_tokens: NDArray[np.uint16]) -> CoderTables:
    """Counts of the bundle's training tokens, and contexts of the hundred images."""
    reference = Bundle.open(SHIPPED).reference
    arrays = coder_arrays(real_tokens[..., None], 1024, clusters=8)
    return CoderTables(
        reference.usage[None], reference.position_counts[:, :, None], *arrays.values()
    )
