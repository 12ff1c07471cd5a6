"""Fixtures that several files share: real images, a finished run, its bundle."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models import Autoencoder, load
from tests.training.tiny import one_thread, smooth_images, tiny_settings, write_images
from training.data.cifar10 import read_packed
from training.export import ExportOptions, export_run
from training.runs import train
from vqtok.bundle import Bundle
from vqtok.runtime.engine import Engine
from vqtok.runtime.onnx import open_engine


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def cifar(data_dir: Path) -> NDArray[np.uint8]:
    """The 10,000 test images of CIFAR-10."""
    return read_packed(data_dir / "cifar10" / "test.npz")


@pytest.fixture(scope="session")
def made_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 48 images of 16 x 16."""
    return write_images(tmp_path_factory.mktemp("made"), smooth_images(48))


@pytest.fixture(scope="session")
def real_images(tmp_path_factory: pytest.TempPathFactory, cifar: NDArray[np.uint8]) -> Path:
    """A folder with 112 real images in `train` and 24 others in `test`."""
    folder = tmp_path_factory.mktemp("real")
    write_images(folder / "train", cifar[:112])
    write_images(folder / "test", cifar[112:136])
    return folder


REAL = {"data.image_size": 32, "schedule.epochs": 3}


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, real_images: Path) -> Path:
    """A finished run of GM-VQ on real images."""
    folder = tmp_path_factory.mktemp("run") / "gmvq"
    with one_thread():
        train(tiny_settings("gmvq", real_images, REAL), folder)
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Bundle:
    """What the export of that run writes, memory measured."""
    folder = tmp_path_factory.mktemp("bundles") / "gmvq"
    with one_thread():
        export_run(run, ExportOptions(folder))
    return Bundle.open(folder)


@pytest.fixture
def engine(bundle: Bundle) -> Engine:
    return open_engine(bundle, "cpu", num_threads=1)


@pytest.fixture
def model(run: Path) -> Autoencoder:
    return load(run)
