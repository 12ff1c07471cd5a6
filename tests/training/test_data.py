"""Data sets: the same images from every form of the files, split as the settings say."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.training.tiny import smooth_images, write_images
from training.data import Part, load_splits
from training.data.cifar10 import load_cifar10, read_binary, read_packed
from training.data.folder import FolderImages
from training.data.labels import load_labels
from training.settings import DataSettings, SettingsError

Pixels = NDArray[np.uint8]
SIX_FILES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


def official(images: Pixels, labels: Iterable[int]) -> bytes:
    """Records as the CIFAR-10 page describes: label, red plane, green plane, blue plane."""
    return b"".join(
        bytes([int(label)]) + b"".join(image[:, :, channel].tobytes() for channel in range(3))
        for image, label in zip(images, labels, strict=True)
    )


def packed(path: Path, images: Pixels) -> None:
    """Planes G, R - G, B - G, each as its difference along rows and columns, modulo 256."""
    red, green, blue = (images[..., channel] for channel in range(3))
    planes = {"g": green, "r_minus_g": red - green, "b_minus_g": blue - green}
    differences = {
        name: np.diff(np.diff(plane, axis=1, prepend=np.uint8(0)), axis=2, prepend=np.uint8(0))
        for name, plane in planes.items()
    }
    np.savez_compressed(path, allow_pickle=False, **differences)


def write_official(folder: Path, images: Pixels) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in zip(SIX_FILES, np.split(images, 6), strict=True):
        (folder / name).write_bytes(official(part, np.zeros(len(part), np.uint8)))


def write_packed(folder: Path, images: Pixels) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in zip(
        ("train-0", "train-1", "test"), np.split(images, [18, 25]), strict=True
    ):  # fmt: skip
        packed(folder / f"{name}.npz", part)


@pytest.fixture
def noise() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("below", [".", "cifar-10-batches-bin"])
def test_the_packed_form_holds_the_images_of_the_official_one(
    tmp_path: Path, noise: Pixels, below: str
) -> None:
    write_official(tmp_path / "official" / below, noise)
    write_packed(tmp_path / "packed", noise)
    for folder in ("official", "packed"):
        train, test = load_cifar10(tmp_path / folder)
        assert np.array_equal(train, noise[:25])
        assert np.array_equal(test, noise[25:])


def test_the_real_packed_test_set_is_the_official_file_byte_for_byte(
    data_dir: Path, cifar: Pixels
) -> None:
    with np.load(data_dir / "cifar10" / "test.npz") as file:
        labels: Pixels = file["labels"]
    data = official(cifar, labels)
    git_blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    assert git_blob.startswith("e3f3b465")


def test_real_images_survive_the_official_form(tmp_path: Path, cifar: Pixels) -> None:
    (tmp_path / "some.bin").write_bytes(official(cifar[:20], np.arange(20)))
    assert np.array_equal(read_binary(tmp_path / "some.bin"), cifar[:20])


def test_a_packed_file_gives_contiguous_bytes_of_rgb(tmp_path: Path, noise: Pixels) -> None:
    packed(tmp_path / "a.npz", noise)
    images = read_packed(tmp_path / "a.npz")
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous


@pytest.mark.parametrize("kept", [0, 3072, 2 * 3073 - 1])
def test_a_truncated_official_file_is_refused_by_name(
    tmp_path: Path, noise: Pixels, kept: int
) -> None:
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(official(noise[:2], [0, 1])[:kept])
    with pytest.raises(ValueError, match=rf"data_batch_1\.bin holds {kept} bytes"):
        read_binary(path)


def test_a_folder_without_cifar10_is_told_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        load_cifar10(tmp_path)
    for word in (str(tmp_path), "data_batch_1.bin", "test_batch.bin", "train-0.npz", "README"):
        assert word in str(error.value)


def test_one_missing_file_of_six_is_not_passed_over(tmp_path: Path, noise: Pixels) -> None:
    write_official(tmp_path, noise)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(FileNotFoundError):
        load_cifar10(tmp_path)


def test_a_folder_s_images_come_by_path_whatever_their_format(tmp_path: Path) -> None:
    colours = {"b.PNG": 1, "a/z.jpeg": 2, "c.webp": 3, "a/b.bmp": 4}
    for name, grey in colours.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (grey * 40,) * 3).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    images = FolderImages(tmp_path, 16)
    assert [path.relative_to(tmp_path).as_posix() for path in images.paths] == [
        "a/b.bmp",
        "a/z.jpeg",
        "b.PNG",
        "c.webp",
    ]
    greys = [round(images[index].mean() / 40) for index in range(len(images))]
    assert greys == [4, 2, 1, 3]


@pytest.mark.parametrize("size", [(16, 16), (40, 20), (20, 60), (7, 7)])
def test_a_folder_s_images_all_have_the_size_asked_for(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    Image.new("L", size, 128).save(tmp_path / "image.png")
    image = FolderImages(tmp_path, 16)[0]
    assert image.shape == (16, 16, 3)
    assert image.dtype == np.uint8
    assert (image == 128).all()


def test_a_wide_image_is_cut_to_its_middle(tmp_path: Path) -> None:
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, 16:32] = 255
    write_images(tmp_path, wide[None])
    assert (FolderImages(tmp_path, 16)[0] == 255).all()


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, smooth_images(2))
    broken = tmp_path / "0001.png"
    broken.write_bytes(broken.read_bytes()[:100])
    images = FolderImages(tmp_path, 16)
    assert images[0].shape == (16, 16, 3)
    with pytest.raises(ValueError, match=r"0001\.png: "):
        _ = images[1]


def test_a_real_photograph_becomes_a_training_image(data_dir: Path) -> None:
    images = FolderImages(data_dir / "odd-images" / "valid" / "scikit-image", 32)
    shapes = {images[index].shape for index in range(len(images))}
    assert shapes == {(32, 32, 3)}


def test_a_folder_without_images_is_told_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no image in .*\.png"):
        FolderImages(tmp_path, 16)


def test_validation_is_the_last_training_images(made_images: Path) -> None:
    settings = DataSettings(
        kind="folder", folder=str(made_images), image_size=16, validation_images=10
    )
    splits = load_splits(settings)
    expected = smooth_images(48)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [38, 10, 0]
    assert all(np.array_equal(splits.train[i], expected[i]) for i in range(38))
    assert all(np.array_equal(splits.validation[i], expected[38 + i]) for i in range(10))


def test_no_validation_images_means_all_images_train(made_images: Path) -> None:
    settings = DataSettings(
        kind="folder", folder=str(made_images), image_size=16, validation_images=0
    )
    splits = load_splits(settings)
    assert (len(splits.train), len(splits.validation)) == (48, 0)


def test_subfolders_train_and_test_are_the_splits(tmp_path: Path) -> None:
    images = smooth_images(9)
    write_images(tmp_path / "train", images[:6])
    write_images(tmp_path / "test", images[6:])
    settings = DataSettings(kind="folder", folder=str(tmp_path), image_size=16, validation_images=2)
    splits = load_splits(settings)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [4, 2, 3]
    assert np.array_equal(splits.validation[1], images[5])
    assert np.array_equal(splits.test[0], images[6])


@pytest.mark.parametrize("kept", [48, 1000])
def test_keeping_all_images_for_validation_is_refused(made_images: Path, kept: int) -> None:
    settings = DataSettings(
        kind="folder", folder=str(made_images), image_size=16, validation_images=kept
    )
    with pytest.raises(SettingsError, match=rf"48 training images.*validation_images.*{kept}"):
        load_splits(settings)


def test_an_unknown_kind_of_data_is_told_the_kinds(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"'movies'.*cifar10, folder"):
        load_splits(DataSettings(kind="movies", folder=str(tmp_path)))


@pytest.mark.parametrize("index", [-1, 3])
def test_a_part_gives_no_image_outside_itself(index: int) -> None:
    part = Part(smooth_images(9), 2, 5)
    with pytest.raises(IndexError):
        _ = part[index]


def test_cifar10_keeps_its_last_images_and_5000_where_nothing_else_is_said(
    tmp_path: Path, noise: Pixels
) -> None:
    write_packed(tmp_path, noise)
    splits = load_splits(DataSettings(folder=str(tmp_path), validation_images=5))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [20, 5, 5]
    assert np.array_equal(splits.validation[0], noise[20])
    assert DataSettings().validation_images == 5_000


def test_both_forms_of_cifar10_have_the_labels(data_dir: Path, tmp_path: Path) -> None:
    settings = DataSettings(folder=str(data_dir / "cifar10"))
    labels = load_labels(settings)
    assert labels is not None
    assert (labels.names[3], labels.names[8]) == ("cat", "ship")
    # The data set's page: 5,000 and 1,000 images of each class; the first test image is a cat.
    assert np.bincount(labels.train).tolist() == [5000] * 10
    assert np.bincount(labels.test).tolist() == [1000] * 10
    assert labels.test[:4].tolist() == [3, 8, 8, 0]
    images = np.zeros((5, 32, 32, 3), np.uint8)
    for name in SIX_FILES:
        (tmp_path / name).write_bytes(official(images, [7, 1, 2, 3, 9]))
    binary = load_labels(DataSettings(folder=str(tmp_path)))
    assert binary is not None
    assert binary.test.tolist() == [7, 1, 2, 3, 9]


def test_folders_within_a_folder_are_classes(tmp_path: Path) -> None:
    images = smooth_images(3)
    for part in ("train", "test"):
        write_images(tmp_path / part / "dogs", images[:1])
        write_images(tmp_path / part / "cats" / "grey", images[1:])
    settings = DataSettings(kind="folder", folder=str(tmp_path), image_size=16)
    labels = load_labels(settings)
    assert labels is not None
    assert labels.names == ("cats", "dogs")
    assert labels.train.tolist() == [0, 0, 1]
    assert np.array_equal(load_splits_of(settings)[2], images[0])
    write_images(tmp_path / "test" / "owls", images[:1])
    with pytest.raises(ValueError, match="'owls'"):
        load_labels(settings)
    write_images(tmp_path / "train", images[:1])
    assert load_labels(settings) is None


def load_splits_of(settings: DataSettings) -> Part:
    return load_splits(settings.model_copy(update={"validation_images": 0})).train
