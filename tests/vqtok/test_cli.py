"""The command `vqtok`: what it writes, what it shows, and in which words it fails."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.service.process import ServiceProcess
from tests.vqtok.command import Command
from tests.vqtok.tiny_bundle import smooth_images, write_tiny_bundle
from vqtok.images import read_image, write_image
from vqtok.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def service(bundle: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess(["--bundle", str(bundle), "--device", "cpu"]) as process:
        yield process.wait_ready()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(write_image(smooth_images(1, 45, 60)[0], "jpeg"))
    return path


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.height, image.width


def test_a_photo_becomes_tokens_and_a_picture_again(
    vqtok: Command, bundle: Path, photo: Path
) -> None:
    here = photo.parent
    vqtok.succeed("encode", "photo.jpg", "-o", "photo.npz", "--bundle", bundle)
    vqtok.succeed("decode", "photo.npz", "-o", "out.png", "--bundle", bundle)
    with Tokenizer.open(bundle, device="cpu") as tokenizer:
        (expected,) = tokenizer.reconstruct([photo])
    assert np.array_equal(read_image((here / "out.png").read_bytes()), expected)


def test_the_file_of_tokens_keeps_ids_sizes_preprocess_and_names(
    vqtok: Command, bundle: Path, photo: Path
) -> None:
    vqtok.succeed("encode", photo, "-o", "photo.npz", "--bundle", bundle)
    with Tokenizer.open(bundle, device="cpu") as tokenizer:
        info = tokenizer.info
    with np.load(photo.parent / "photo.npz", allow_pickle=False) as arrays:
        assert arrays["tokens"].shape == (1, 12, 15)
        assert arrays["tokens"].dtype == np.uint16
        assert arrays["sizes"].tolist() == [[45, 60]]
        assert arrays["names"].tolist() == ["photo"]
        assert str(arrays["codebook_id"]) == info.codebook_id
        assert str(arrays["tokenizer_id"]) == info.tokenizer_id
        assert str(arrays["preprocess"]) == "pad"
        assert str(arrays["model"]) == "tiny@1"


def test_a_service_in_place_of_a_bundle_gives_the_same_files(
    vqtok: Command, bundle: Path, service: ServiceProcess, photo: Path
) -> None:
    here = photo.parent
    vqtok.succeed("encode", photo, "-o", "local.npz", "--bundle", bundle)
    vqtok.succeed("encode", photo, "-o", "remote.npz", "--url", service.url)
    assert (here / "local.npz").read_bytes() == (here / "remote.npz").read_bytes()
    vqtok.succeed("decode", "local.npz", "-o", "local.png", "--bundle", bundle)
    vqtok.succeed("decode", "local.npz", "-o", "remote.png", "--url", service.url)
    assert (here / "local.png").read_bytes() == (here / "remote.png").read_bytes()


def test_a_folder_of_images_of_many_sizes_becomes_a_folder_again(
    vqtok: Command, bundle: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    sizes = {f"p{i:02d}": (9 + i, 40 - i) for i in range(35)}
    for name, size in sizes.items():
        (photos / f"{name}.png").write_bytes(write_image(smooth_images(1, *size)[0]))
    (photos / "notes.txt").write_text("not an image")
    vqtok.succeed("encode", photos, "-o", "all.npz", "--bundle", bundle)
    vqtok.succeed("decode", "all.npz", "-o", "back", "--bundle", bundle)
    back = {p.stem: size_of(p) for p in (tmp_path / "back").iterdir()}
    assert back == sizes


@pytest.mark.parametrize("suffix", ["npy", "json"])
def test_npy_and_json_files_decode_too(
    vqtok: Command, bundle: Path, photo: Path, suffix: str
) -> None:
    here = photo.parent
    options = ("--preprocess", "center_crop", "--image-size", "16x24", "--bundle", bundle)
    vqtok.succeed("encode", photo, "-o", f"photo.{suffix}", *options)
    vqtok.succeed("decode", f"photo.{suffix}", "-o", "out.webp", "--bundle", bundle)
    assert size_of(here / "out.webp") == (16, 24)
    if suffix == "json":
        assert json.loads((here / "photo.json").read_text())["preprocess"] == "center_crop"


def test_inspecting_a_bundle_shows_its_ids_and_its_codebook(
    vqtok: Command, bundle: Path, tmp_path: Path
) -> None:
    shown = vqtok.succeed("inspect", bundle)
    with Tokenizer.open(bundle, device="cpu") as tokenizer:
        assert tokenizer.info.codebook_id.short in shown
    assert "tiny@1" in shown
    assert "32 codes of 4 dimensions" in shown
    assert "perplexity" in shown


def test_inspecting_tokens_shows_their_images(vqtok: Command, bundle: Path, photo: Path) -> None:
    vqtok.succeed("encode", photo, "-o", "photo.npz", "--bundle", bundle)
    shown = vqtok.succeed("inspect", "photo.npz")
    assert "12 x 15" in shown
    assert "45 x 60" in shown
    assert "180" in shown


def test_what_is_wrong_with_a_file_is_one_sentence(
    vqtok: Command, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 rubbish")
    model = ("--bundle", bundle)
    said = vqtok.fail(1, "encode", "notes.txt", "-o", "x.npz", *model)
    assert "notes.txt: The bytes are none of the image formats taken" in said
    assert "gone.png cannot be read" in vqtok.fail(1, "encode", "gone.png", "-o", "x.npz", *model)
    assert "holds no image" in vqtok.fail(1, "encode", "empty", "-o", "x.npz", *model)
    assert "bad.npz is no file of tokens" in vqtok.fail(
        1, "decode", "bad.npz", "-o", "x.png", *model
    )
    assert "notes.txt: tokens are kept in" in vqtok.fail(1, "inspect", "notes.txt")
    assert "manifest.json is missing" in vqtok.fail(1, "inspect", "empty")
    assert not (tmp_path / "x.npz").exists()


def test_an_output_that_cannot_be_written_is_said_before_the_work(
    vqtok: Command, bundle: Path, photo: Path
) -> None:
    model = ("--bundle", bundle)
    assert "x.txt: tokens are kept in" in vqtok.fail(1, "encode", photo, "-o", "x.txt", *model)
    assert "no/x.npz cannot be written: there is no folder no" in vqtok.fail(
        1, "encode", photo, "-o", "no/x.npz", *model
    )
    vqtok.succeed("encode", photo, photo, "-o", "two.npz", *model)
    said = vqtok.fail(1, "decode", "two.npz", "-o", "one.png", *model)
    assert "2 images do not fit into one.png: name a folder" in said


def test_files_of_one_name_are_told_apart(vqtok: Command, bundle: Path, photo: Path) -> None:
    here = photo.parent
    vqtok.succeed("encode", photo, photo, "-o", "two.npz", "--bundle", bundle)
    vqtok.succeed("decode", "two.npz", "-o", "back", "--bundle", bundle)
    names = sorted(path.name for path in (here / "back").iterdir())
    assert names == ["00000-photo.png", "00001-photo.png"]


def test_tokens_of_another_codebook_are_refused(vqtok: Command, bundle: Path, photo: Path) -> None:
    here = photo.parent
    other = write_tiny_bundle(here, "other", seed=4)
    vqtok.succeed("encode", photo, "-o", "photo.npz", "--bundle", bundle)
    said = vqtok.fail(1, "decode", "photo.npz", "-o", "x.png", "--bundle", other)
    assert "this model's codebook is" in said


def test_usage_errors_have_status_two(vqtok: Command, bundle: Path, photo: Path) -> None:
    assert "--bundle" in vqtok.fail(2, "encode", photo, "-o", "x.npz")
    both = ("--bundle", bundle, "--url", "http://127.0.0.1:9")
    assert "not both" in vqtok.fail(2, "encode", photo, "-o", "x.npz", *both)
    vqtok.fail(2, "encode", photo, "--bundle", bundle)
    vqtok.fail(2, "frobnicate")


def test_a_service_that_is_not_there_has_status_three(vqtok: Command, photo: Path) -> None:
    said = vqtok.fail(3, "encode", photo, "-o", "x.npz", "--url", "http://127.0.0.1:9")
    assert "cannot be reached" in said


def test_help_and_version_are_there(vqtok: Command) -> None:
    assert "Exit status" in vqtok.succeed("--help")
    for command in ("encode", "decode", "inspect"):
        assert "--help" in vqtok.succeed(command, "--help")
    assert vqtok.succeed("--version").strip()


def test_it_runs_outside_the_checkout_and_takes_the_bundle_from_the_environment(
    bundle: Path, photo: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VQTOK_BUNDLE": str(bundle)}
    for arguments in (("encode", "photo.jpg", "-o", "photo.npz"), ("inspect", "missing")):
        done = subprocess.run(
            [sys.executable, "-m", "vqtok", *arguments],
            cwd=photo.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == (0 if arguments[0] == "encode" else 1)
    assert (photo.parent / "photo.npz").exists()
    assert "missing cannot be read: No such file" in done.stderr


@pytest.fixture(scope="module")
def with_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"), prior=True)


def test_samples_are_pictures_or_tokens_of_the_seed(
    vqtok: Command, tmp_path: Path, with_prior: Path
) -> None:
    options = ("--seed", 4, "--label", "lines", "--cfg-scale", 0.5, "--bundle", with_prior)
    done = vqtok("sample", "-n", 3, "-o", tmp_path / "three", *options)
    assert done.status == 0, done.stderr
    assert "Seed 4; " in done.stderr
    with Tokenizer.open(with_prior, "cpu") as tokenizer:
        expected = tokenizer.sample(3, seed=4, label="lines", cfg_scale=0.5)
    pictures = [read_image(path.read_bytes()) for path in sorted((tmp_path / "three").iterdir())]
    assert np.array_equal(np.stack(pictures), np.stack(expected.images))
    assert f"{expected.bits.mean():.1f} bits" in done.stderr
    vqtok("sample", "-n", 3, "-o", tmp_path / "three.npy", *options)
    tokens = [item.tokens for item in expected.tokens.images]
    assert np.array_equal(np.load(tmp_path / "three.npy"), np.stack(tokens))


def test_the_rest_of_a_grid_is_painted_in(
    vqtok: Command, tmp_path: Path, with_prior: Path, photo: Path
) -> None:
    with Image.open(photo) as image:
        image.resize((32, 32)).save(tmp_path / "small.png")
    vqtok("encode", tmp_path / "small.png", "-o", tmp_path / "t.npy", "--bundle", with_prior)
    mask = np.zeros((8, 8), bool)
    mask[:, :5] = True
    np.save(tmp_path / "mask.npy", mask)
    known = ("--known", tmp_path / "t.npy", "--mask", tmp_path / "mask.npy")
    done = vqtok("sample", "-o", tmp_path / "s.npy", *known, "--bundle", with_prior)
    assert done.status == 0, done.stderr
    before, after = np.load(tmp_path / "t.npy")[0], np.load(tmp_path / "s.npy")[0]
    assert np.array_equal(after[mask], before[mask])


def test_a_wish_that_the_prior_does_not_know_is_one_sentence(
    vqtok: Command, tmp_path: Path, bundle: Path
) -> None:
    done = vqtok("sample", "-o", tmp_path / "s.png", "--label", "cat", "--bundle", bundle)
    assert done.status == 1
    assert done.stderr == (
        "Error: The prior of this model (position-table) knows no labels. Leave label out.\n"
    )
