"""`vqtok compress --coder prior`: only on request, and read by the same runtime alone."""

from pathlib import Path

import numpy as np
import pytest

from tests.vqtok.command import Command
from tests.vqtok.tiny_bundle import smooth_images, write_tiny_bundle
from vqtok.bitstream import BitstreamReader
from vqtok.images import read_image, write_image
from vqtok.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"), prior=True)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    for i, pixels in enumerate(smooth_images(20, 32, 32)):
        (folder / f"{i:02d}.png").write_bytes(write_image(pixels))
    return sorted(folder.iterdir())


def test_images_and_tokens_go_there_and_back(
    vqtok: Command, bundle: Path, images: list[Path]
) -> None:
    options = ("--bundle", bundle, "--device", "cpu")
    bound = ("--coder", "prior", "--machine-bound", "--chunk-images", 8)
    vqtok.succeed("compress", *images, "-o", "a.vqt", *options, *bound)
    vqtok.succeed("decompress", "a.vqt", "-o", "out", *options)
    vqtok.succeed("decompress", "a.vqt", "-o", "a.npy", *options)
    with Tokenizer.open(bundle, "cpu") as tokenizer:
        tokens = tokenizer.encode(images)
        pictures = tokenizer.decode(tokens)
    expected = np.stack([item.tokens for item in tokens.images])
    assert np.array_equal(np.load(vqtok.folder / "a.npy"), expected)
    for path, picture in zip(sorted((vqtok.folder / "out").iterdir()), pictures, strict=True):
        assert np.array_equal(read_image(path.read_bytes()), picture)
    np.save(vqtok.folder / "tokens.npy", expected)
    vqtok.succeed("compress", "tokens.npy", "-o", "b.vqt", *options, *bound)
    chunks = list(BitstreamReader((vqtok.folder / "b.vqt").read_bytes()).scan())
    assert [chunk.header.coder for chunk in chunks] == [16, 16, 16]


def test_inspect_says_what_it_is_bound_to(vqtok: Command, bundle: Path, images: list[Path]) -> None:
    vqtok.succeed(
        *("compress", *images, "-o", "a.vqt", "--bundle", bundle, "--device", "cpu"),
        *("--coder", "prior", "--machine-bound"),
    )
    header = BitstreamReader((vqtok.folder / "a.vqt").read_bytes()).header
    assert header.runtime is not None
    shown = vqtok.succeed("inspect", "a.vqt")
    for word in ("prior", header.table_ids[16], *header.runtime.split()[:4], "whole"):
        assert word in shown, word


def test_another_processor_is_named_beside_the_one_that_wrote_it(
    vqtok: Command, bundle: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--bundle", bundle, "--device", "cpu")
    with monkeypatch.context() as patched:
        patched.setattr("vqtok.runtime.onnx.processor", lambda: "Linux, the first processor")
        bound = ("--coder", "prior", "--machine-bound")
        vqtok.succeed("compress", *images, "-o", "a.vqt", *options, *bound)
    monkeypatch.setattr("vqtok.runtime.onnx.processor", lambda: "Linux, the second processor")
    for output in ("a.npy", "out"):
        message = vqtok.fail(1, "decompress", "a.vqt", "-o", output, *options)
        assert message.count("CPUExecutionProvider by 1, Linux, the first processor") == 1
        assert message.count("CPUExecutionProvider by 1, Linux, the second processor") == 1
    assert not list((vqtok.folder / "out").iterdir())


def test_what_cannot_be_is_said_in_one_line(
    vqtok: Command, bundle: Path, images: list[Path]
) -> None:
    prior = ("--coder", "prior")
    options = ("--bundle", bundle, "--device", "cpu")
    assert "machine_bound" in vqtok.fail(1, "compress", *images, "-o", "a.vqt", *options, *prior)
    message = vqtok.fail(1, "compress", *images, "-o", "a.vqt", *options, "--machine-bound")
    assert "every machine reads coder=auto" in message
    (vqtok.folder / "large.png").write_bytes(write_image(smooth_images(1, 40, 32)[0]))
    bound = (*prior, "--machine-bound")
    message = vqtok.fail(1, "compress", "large.png", "-o", "a.vqt", *options, *bound)
    assert "the grid 10x8 is not the native one, 8x8" in message
    without = write_tiny_bundle(vqtok.folder, "without")
    message = vqtok.fail(1, "compress", *images, "-o", "a.vqt", "--bundle", without, *bound)
    assert "the bundle holds no learned prior" in message
    vqtok.succeed("compress", *images, "-o", "a.vqt", *options, *bound)
    message = vqtok.fail(1, "decompress", "a.vqt", "-o", "a.npy", "--bundle", without)
    assert "it is not here" in message
