"""Real and hostile files: every valid one reads to its size, no hostile one does harm."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from vqtok.errors import InvalidInput, UnsupportedImage
from vqtok.images import probe, read_image

ROOT = Path(__file__).parents[3]
TAKEN = {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"}

WORST = """
import collections, json, resource, sys, time, warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from vqtok.errors import InvalidInput
from vqtok.images import read_image

def outcome(file):
    began = time.monotonic()
    try:
        read_image(file.read_bytes())
        name = "pixels"
    except InvalidInput as error:
        name = error.code
    return name, time.monotonic() - began

def resident():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

warnings.simplefilter("error")
files = sorted(file for file in Path(sys.argv[1]).rglob("*") if file.is_file())
before = resident()
with ThreadPoolExecutor(4) as pool:
    results = list(pool.map(outcome, files))
print(json.dumps({
    "outcomes": collections.Counter(name for name, _ in results),
    "slowest": max(seconds for _, seconds in results),
    "risen": resident() - before,
}))
"""


@pytest.fixture(name="odd_images", scope="module")
def _odd_images(data_dir: Path) -> Path:
    return data_dir / "odd-images"


def valid_files(odd_images: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """The valid files with what their manifest says."""
    with (odd_images / "MANIFEST.csv").open(newline="") as manifest:
        for row in csv.DictReader(manifest):
            if row["file"].startswith("valid/"):
                yield odd_images / row["file"], row


def test_every_valid_file_reads_to_its_upright_size(
    odd_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = 0
    for file, row in valid_files(odd_images):
        data = file.read_bytes()
        if row["format"] not in TAKEN:
            with pytest.raises(UnsupportedImage):
                read_image(data)
            continue
        with Image.open(io.BytesIO(data)) as picture:
            upright = ImageOps.exif_transpose(picture)
        pixels = read_image(data)
        assert pixels.shape == (upright.height, upright.width, 3), file.name
        assert pixels.dtype == np.uint8
        assert probe(data).size == pixels.shape[:2]
        read += 1
    with capsys.disabled():
        print(f"\n{read} valid files read")  # noqa: T201
    assert read == 271


def test_the_pixels_of_opaque_files_are_those_of_pillow(
    odd_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = 0
    for file, row in valid_files(odd_images):
        if row["format"] not in TAKEN or row["mode"] not in {"RGB", "L", "P", "1"}:
            continue
        data = file.read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            if "transparency" in picture.info or picture.mode == "RGBA":
                continue
            expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
        np.testing.assert_array_equal(read_image(data), expected, err_msg=file.name)
        compared += 1
    with capsys.disabled():
        print(f"\n{compared} opaque files compared pixel by pixel")  # noqa: T201
    assert compared > 200


@pytest.mark.parametrize("folder", ["valid", "hostile"])
def test_four_at_a_time_they_take_little_time_and_memory(
    odd_images: Path, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", WORST, str(odd_images / folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
        cwd=ROOT,
    )
    found = json.loads(answer.stdout)
    with capsys.disabled():
        print(f"\n{folder}: {found}")  # noqa: T201
    assert sum(found["outcomes"].values()) == {"valid": 274, "hostile": 341}[folder]
    assert set(found["outcomes"]) <= {"pixels", "broken_image", "unsupported_image", "too_large"}
    assert found["slowest"] < 10
    assert found["risen"] < 256


def test_a_valid_file_cut_in_half_gives_pixels_of_its_size_or_is_refused(odd_images: Path) -> None:
    refused = 0
    for file, row in valid_files(odd_images):
        data = file.read_bytes()
        half = data[: len(data) // 2]
        try:
            assert read_image(half).shape[:2] == probe(half).size
        except InvalidInput:
            refused += 1
        else:
            assert row["format"] != "JPEG", file.name
    assert refused > 200


def test_threads_do_not_disturb_one_another(odd_images: Path) -> None:
    files = [file.read_bytes() for file, row in valid_files(odd_images) if row["format"] in TAKEN]
    alone = [read_image(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(read_image, files * 2))
    for index, pixels in enumerate(together):
        np.testing.assert_array_equal(pixels, alone[index % len(files)])
