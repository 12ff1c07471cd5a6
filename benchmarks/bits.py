"""Bits an image of tokens as bitstreams, beside image files of the same error and general packers.

    python -m benchmarks.bits --bundle bundles/cifar10-gmvq

The test images of CIFAR-10 as tokens by every coder, with the speed of each; as gzip and zstd of
the same tokens in uint16; as lossless PNG and WebP; and as JPEG and WebP of the quality whose error
over all images is nearest to that of the tokens, as a file an image and as sheets of 10 x 10.
Writes docs/results/bits.json and the page beside it.
"""

import argparse
import gzip
import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import Progress, track

from benchmarks.bits_page import markdown
from benchmarks.serving.processes import processor_name
from training.data.cifar10 import load_cifar10
from training.results import commit
from vqtok import Tokenizer
from vqtok.bitstream import CODERS, BitstreamReader, Coding, StreamHeader, stream_bytes
from vqtok.bitstream.coders import PORTABLE
from vqtok.tokens import ImageTokens

Pixels = NDArray[np.uint8]
ResultT = TypeVar("ResultT")
SHEET = 10
REPEATS = 5
NEURAL_REPEATS = 1
QUALITIES = range(1, 101)
TRIED_IMAGES = 1_000
"""The quality is looked for on so many images, and its neighbours are then tried on all."""
LOSSLESS: Mapping[str, Mapping[str, Any]] = {
    "PNG": {"format": "PNG", "optimize": True},
    "WebP lossless": {"format": "WEBP", "lossless": True, "quality": 80, "method": 4},
}
LOSSY: Mapping[str, Mapping[str, Any]] = {
    "JPEG": {"format": "JPEG", "optimize": True, "subsampling": "4:2:0"},
    "WebP": {"format": "WEBP", "method": 6},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the report and its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/cifar10-gmvq"))
    parser.add_argument("--data", type=Path, required=True, help="The folder of CIFAR-10.")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument(
        "--prior-images",
        type=int,
        default=1_000,
        help="Of them, for the coder that runs a network.",
    )
    parser.add_argument("--output", type=Path, default=Path("docs/results/bits.json"))
    options = parser.parse_args(arguments)
    images = load_cifar10(options.data)[1][: options.images]
    with Tokenizer.open(options.bundle, "cpu") as tokenizer:
        report = measure(tokenizer, images, options.prior_images)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    options.output.with_suffix(".md").write_text(markdown(report))
    return 0


def measure(tokenizer: Tokenizer, images: Pixels, prior_images: int) -> dict[str, Any]:
    """Everything about these images (N, H, W, 3), and the first `prior_images` by the prior."""
    items, mse = _tokens(tokenizer, images)
    tokens = np.stack([item.tokens for item in items])
    info = tokenizer.info
    return {
        "model": f"{info.name}@{info.version}",
        "codebook_size": info.codebook_size,
        "images": len(images),
        "pixels": images.shape[1] * images.shape[2],
        "tokens": tokens[0].size,
        "mse": mse,
        "coders": {
            name: _coder(name, items if name in PORTABLE else items[:prior_images], tokenizer)
            for name in CODERS
        },
        "packers": _packers(tokens.astype("<u2").tobytes(), len(images)),
        "files": {
            **{name: _lossless(images, rule) for name, rule in LOSSLESS.items()},
            **{name: _nearest(name, images, rule, mse) for name, rule in LOSSY.items()},
        },
        "hardware": processor_name(),
        "commit": commit(),
        "command": "python -m benchmarks.bits",
    }


def _tokens(tokenizer: Tokenizer, images: Pixels) -> tuple[list[ImageTokens], float]:
    """Tokens of all images, and the mean squared error of what they decode to, on [0, 1]."""
    items: list[ImageTokens] = []
    squared = 0.0
    starts = range(0, len(images), 100)
    for start in track(starts, "tokens"):
        part = images[start : start + 100]
        found = tokenizer.encode(list(part)).images
        items += found
        back = np.stack(tokenizer.decode(found))
        squared += float(np.square(part / 255.0 - back / 255.0).sum())
    return items, squared / images.size


def _coder(name: str, items: Sequence[ImageTokens], tokenizer: Tokenizer) -> dict[str, Any]:
    """Bits an image of a whole stream and of the code alone; tokens a second, the best of some."""
    coding, info = tokenizer.coding, tokenizer.info
    header = StreamHeader(
        codebook_size=info.codebook_size,
        depth=info.depth,
        codebook_id=info.codebook_id,
        tokenizer_id=info.tokenizer_id,
    )
    grid = (items[0].grid[0], items[0].grid[1])
    reason = coding.obstacle(name, grid)
    if reason is not None:
        return {"bits": None, "reason": reason}
    num_tokens = sum(item.tokens.size for item in items)
    is_bound = name not in PORTABLE

    def write() -> bytes:
        return b"".join(stream_bytes(items, header, coding, name, machine_bound=is_bound))

    def read() -> int:
        reader = BitstreamReader(stream, tables=coding.tables, prior=coding.prior)
        return sum(len(chunk.tokens) for chunk in reader.chunks())

    repeats = NEURAL_REPEATS if is_bound else REPEATS
    stream, write_seconds = _shortest(write, repeats)
    num_read, read_seconds = _shortest(read, repeats)
    assert num_read == len(items)
    found = {
        "images": len(items),
        "bits": 8 * len(stream) / len(items),
        "code_length": _code_length(name, items, coding),
        "encoded_tokens_per_second": num_tokens / write_seconds,
        "decoded_tokens_per_second": num_tokens / read_seconds,
    }
    if is_bound:
        others = [other for other in PORTABLE if coding.obstacle(other, grid) is None]
        found["beside"] = {other: _code_length(other, items, coding) for other in others}
    return found


def _code_length(name: str, items: Sequence[ImageTokens], coding: Coding) -> float:
    """Bits an image that the model of a coder gives the tokens."""
    tokens = np.stack([item.tokens for item in items])
    return float(np.mean(coding.bits(name, tokens.reshape(*tokens.shape[:3], -1))))


def _shortest(run: Callable[[], ResultT], repeats: int) -> tuple[ResultT, float]:
    """What it gives, and the seconds of the shortest of some runs."""
    times: list[float] = []
    while True:
        started = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - started)
        if len(times) == repeats:
            return result, min(times)


def _packers(data: bytes, count: int) -> dict[str, Any]:
    """General packers on the same tokens in uint16, all images in one piece."""
    found = {
        "uint16": {"bits": 8 * len(data) / count, "by": "npy without its header"},
        "gzip": {"bits": 8 * len(gzip.compress(data, 9)) / count, "by": "Python's gzip, level 9"},
    }
    packed, by = _zstd(data)
    if packed is not None:
        found["zstd"] = {"bits": 8 * packed / count, "by": by}
    return found


def _zstd(data: bytes) -> tuple[int | None, str]:
    """Bytes at level 19, and what did it: the package zstandard, or the command zstd."""
    try:
        import zstandard  # pyright: ignore[reportMissingImports]
    except ImportError:
        command = shutil.which("zstd")
        if command is None:
            return None, ""
        call = [command, "-19", "--stdout", "--quiet"]
        done = subprocess.run(call, input=data, capture_output=True, check=True)
        return len(done.stdout), "the command zstd, level 19"
    compressor: Any = zstandard.ZstdCompressor(level=19)
    return len(compressor.compress(data)), f"zstandard {zstandard.__version__}, level 19"


def _lossless(images: Pixels, rule: Mapping[str, Any]) -> dict[str, Any]:
    sheets = _sheets(images)
    return {
        "bits": 8 * sum(len(_file(image, rule)) for image in images) / len(images),
        "sheet_bits": 8 * sum(len(_file(sheet, rule)) for sheet in sheets) / len(images),
        "mse": 0.0,
        "sheet_mse": 0.0,
    }


def _nearest(name: str, images: Pixels, rule: Mapping[str, Any], mse: float) -> dict[str, Any]:
    """The quality with the error nearest to `mse`, for single files and for sheets."""
    report: dict[str, Any] = {}
    with Progress() as progress:
        for prefix, pictures in (("", images), ("sheet_", _sheets(images))):
            few = pictures[: max(1, TRIED_IMAGES // (SHEET**2 if prefix else 1))]
            low, high = QUALITIES[0], QUALITIES[-1]
            task = progress.add_task(f"{name} {prefix}quality", total=None)
            while low < high:
                middle = (low + high) // 2
                if _compressed(few, rule, middle)[1] > mse:
                    low = middle + 1
                else:
                    high = middle
            near = [each for each in range(low - 2, low + 3) if each in QUALITIES]
            tried = {each: _compressed(pictures, rule, each) for each in near}
            best = min(tried, key=lambda each: abs(tried[each][1] - mse))
            report[f"{prefix}quality"] = best
            report[f"{prefix}bits"] = 8 * tried[best][0] / len(images)
            report[f"{prefix}mse"] = tried[best][1]
            progress.remove_task(task)
    return report


def _compressed(
    pictures: Sequence[Pixels] | Pixels, rule: Mapping[str, Any], quality: int
) -> tuple[int, float]:
    """Bytes of all pictures, and their mean squared error on [0, 1]."""
    num_bytes, squared, values = 0, 0.0, 0
    for picture in pictures:
        data = _file(picture, {**rule, "quality": quality})
        back = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        num_bytes += len(data)
        squared += float(np.square(picture / 255.0 - back / 255.0).sum())
        values += picture.size
    return num_bytes, squared / values


def _file(picture: Pixels, rule: Mapping[str, Any]) -> bytes:
    target = io.BytesIO()
    Image.fromarray(picture).save(target, **rule)
    return target.getvalue()


def _sheets(images: Pixels) -> list[Pixels]:
    """Sheets of 10 x 10 images; the last one may be lower."""
    sheets: list[Pixels] = []
    for start in range(0, len(images), SHEET**2):
        part = images[start : start + SHEET**2]
        columns = min(SHEET, len(part))
        part = part[: len(part) // columns * columns]
        rows = part.reshape(-1, columns, *part.shape[1:]).transpose(0, 2, 1, 3, 4)
        sheets.append(rows.reshape(rows.shape[0] * rows.shape[1], -1, 3))
    return sheets


if __name__ == "__main__":
    sys.exit(main())
