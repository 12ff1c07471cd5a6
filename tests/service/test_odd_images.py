"""Real files, valid and hostile, four at a time, while a second client goes on being served."""

import io
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from csv import DictReader
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageOps

from tests.representative import few_of
from tests.service.load import png, probed
from tests.service.process import ServiceProcess

TAKEN = {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"}
RAW = {"Content-Type": "image/*"}
AT_A_TIME = 4
SECONDS_EACH = 10.0
MEBIBYTE = 1024 * 1024


def _rows(data_dir: Path, part: str) -> list[dict[str, str]]:
    folder = data_dir / "odd-images"
    with (folder / "MANIFEST.csv").open(newline="") as file:
        return [row for row in DictReader(file) if row["file"].startswith(f"{part}/")]


def _upright_size(path: Path) -> tuple[int, int]:
    with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
        picture.load()
        upright = ImageOps.exif_transpose(picture)
    return upright.height, upright.width


def _valid(client: httpx.Client, data_dir: Path, row: dict[str, str]) -> str:
    path = data_dir / "odd-images" / row["file"]
    answer = client.post("/v1/encode", content=path.read_bytes(), headers=RAW)
    if row["format"] not in TAKEN:
        assert answer.status_code == 415, row["file"]
        return "415"
    assert answer.status_code == 200, (row["file"], answer.text)
    decoded = client.post("/v1/decode", json=answer.json())
    assert decoded.status_code == 200, (row["file"], decoded.text)
    with Image.open(io.BytesIO(decoded.content)) as picture:
        assert (picture.height, picture.width) == _upright_size(path), row["file"]
    return "200"


def _hostile(client: httpx.Client, data_dir: Path, row: dict[str, str]) -> str:
    data = (data_dir / "odd-images" / row["file"]).read_bytes()
    started = time.monotonic()
    answer = client.post("/v1/encode", content=data, headers=RAW)
    assert time.monotonic() - started < SECONDS_EACH, row["file"]
    assert answer.status_code == 200 or 400 <= answer.status_code < 500, (row["file"], answer.text)
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json", row["file"]
    return str(answer.status_code)


@pytest.mark.parametrize("step", few_of([1, 24], [24]), ids="every {}".format)
def test_every_valid_file_comes_back_and_no_hostile_one_does_harm(
    service: ServiceProcess, data_dir: Path, step: int, capsys: pytest.CaptureFixture[str]
) -> None:
    valid, hostile = _rows(data_dir, "valid"), _rows(data_dir, "hostile")
    num_taken = sum(row["format"] in TAKEN for row in valid)
    assert num_taken == 271
    before, small = service.peak_memory(), png(1)
    with (
        httpx.Client(base_url=service.url, timeout=60) as client,
        probed(
            service.url, lambda other: other.post("/v1/encode", content=small, headers=RAW), 0.02
        ) as seconds,
        ThreadPoolExecutor(AT_A_TIME) as pool,
    ):
        first = Counter(pool.map(lambda row: _valid(client, data_dir, row), valid[::step]))
        second = Counter(pool.map(lambda row: _hostile(client, data_dir, row), hostile[::step]))
    grown = service.peak_memory() - before
    with capsys.disabled():
        print(  # noqa: T201
            f"\nvalid {dict(first)}, hostile {dict(second)}, +{grown / MEBIBYTE:.0f} MiB, "
            f"second client: {len(seconds)} answers, the slowest after {max(seconds):.2f} s"
        )
    assert step > 1 or first == {"200": num_taken, "415": len(valid) - num_taken}
    assert len(seconds) > 3
    assert max(seconds) < SECONDS_EACH
    assert grown <= 512 * MEBIBYTE
