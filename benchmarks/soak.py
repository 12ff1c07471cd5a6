"""Half an hour of mixed load, and whether the service has grown, leaked or answered wrongly.

    make soak

Images of 24 sizes go through every route and format; each answer is compared with what the same
bundle gives in this process, and some calls are broken on purpose. After the first minutes, the
resident memory is fitted by a line against the requests answered so far. Minutes are averaged
first, since neighbouring seconds know of each other; the interval is Student's, over the minutes.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from rich.progress import Progress
from scipy import stats

from tests.service.process import ServiceProcess
from vqtok import Tokenizer
from vqtok.images import write_image
from vqtok.wire.npy_format import read_array, write_array

MEBIBYTE = 2**20
PER_REQUESTS = 10_000
MOST_MEBIBYTES = 1.0
LEAST_SIZES = 20
SAMPLE_SECONDS = 2.0
CLIENTS = 4
NPY = "application/x-npy"


@dataclass(frozen=True, eq=False)
class Picture:
    """An image and what the bundle makes of it: tokens (h, w), pixels back (H, W, 3)."""

    pixels: NDArray[np.uint8]
    tokens: NDArray[Any]
    back: NDArray[np.uint8]


@dataclass
class Sample:
    """The process at a moment: seconds since the start, requests answered, bytes resident."""

    seconds: float
    requests: int
    resident: int
    files: int
    threads: int


@dataclass
class Load:
    """What the clients have seen; `wrong` are answers that differ from the bundle's."""

    statuses: Counter[int] = field(default_factory=Counter)
    checked: int = 0
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, status: int, what: str, *, right: bool | None) -> None:
        """Count an answer; `right` is None where there was nothing to compare."""
        with self.lock:
            self.statuses[status] += 1
            self.checked += right is not None
            if right is False:
                self.wrong.append(what)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write the report, and say whether the bounds held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/cifar10-gmvq"))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--warm-up", type=float, default=5.0, help="minutes that do not count")
    parser.add_argument("--output", type=Path, default=Path("runs/soak"))
    chosen = parser.parse_args(arguments)
    pictures = make_pictures(chosen.bundle)
    load, samples = soak(chosen.bundle, pictures, 60 * chosen.minutes)
    report = judge(samples, load, 60 * chosen.warm_up, len({p.pixels.shape for p in pictures}))
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "soak.json").write_text(json.dumps(report, indent=1) + "\n")
    draw(samples, report, chosen.output / "soak.png")
    for line in report["verdicts"]:
        sys.stdout.write(f"{line}\n")
    return 0 if report["passed"] else 1


def make_pictures(bundle: Path, seed: int = 0) -> list[Picture]:
    """Smooth noise of 24 sizes, three of each, with the bundle's answers."""
    rng = np.random.default_rng(seed)
    sizes = [(int(h), int(w)) for h, w in rng.integers(1, 160, (24, 2))]
    images: list[NDArray[np.uint8]] = []
    for height, width in sizes:
        coarse = rng.integers(0, 256, (3, -(-height // 6), -(-width // 6), 3)).astype(np.uint8)
        smooth = [
            Image.fromarray(c).resize((width, height), Image.Resampling.BICUBIC) for c in coarse
        ]
        images += [np.asarray(each) for each in smooth]
    with Tokenizer.open(bundle, "cpu") as tokenizer:
        batch = tokenizer.encode(images)
        backs = tokenizer.decode(batch)
    return [
        Picture(*each) for each in zip(images, [i.tokens for i in batch.images], backs, strict=True)
    ]


def soak(bundle: Path, pictures: Sequence[Picture], seconds: float) -> tuple[Load, list[Sample]]:
    """Load the service for so long, looking at its process all the while."""
    load, samples = Load(), list[Sample]()
    is_over = threading.Event()
    flags = ["--bundle", str(bundle), "--device", "cpu"]
    with ServiceProcess(flags) as service, ThreadPoolExecutor(CLIENTS) as pool, Progress() as bar:
        service.wait_ready()
        task = bar.add_task("soaking", total=seconds)
        started = time.monotonic()
        running = [
            pool.submit(_client, n, service.url, pictures, load, is_over) for n in range(CLIENTS)
        ]
        try:
            while (now := time.monotonic() - started) < seconds:
                samples.append(_look(service.pid, now, load))
                bar.update(task, completed=now)
                time.sleep(min(SAMPLE_SECONDS, seconds / 10))
        finally:
            is_over.set()
        for each in running:
            each.result()
        time.sleep(6.0)
        samples.append(_look(service.pid, time.monotonic() - started, load))
    return load, samples


def judge(samples: Sequence[Sample], load: Load, warm_up: float, num_sizes: int) -> dict[str, Any]:
    """The report: figures, and for each bound a line that says whether it held."""
    counted = [sample for sample in samples[:-1] if sample.seconds >= warm_up]
    slope, upper = growth(counted)
    first, last = counted[0], samples[-1]
    bounds = {
        f"memory: {slope:+.3f} MiB in {PER_REQUESTS:,} requests, at most {upper:+.3f} (95 %)": (
            upper < MOST_MEBIBYTES
        ),
        f"open files: {first.files}, and {last.files} when the load was over": last.files
        <= first.files,
        f"threads: {first.threads}, and {last.threads} at the end": last.threads <= first.threads,
        f"{load.checked:,} answers compared, {len(load.wrong)} wrong": not load.wrong
        and load.checked > 0,
        f"{num_sizes} sizes of images": num_sizes >= LEAST_SIZES,
        f"statuses {dict(sorted(load.statuses.items()))}": not any(s >= 500 for s in load.statuses),
    }
    return {
        "passed": all(bounds.values()),
        "verdicts": [f"{'held' if held else 'BROKEN'}: {line}" for line, held in bounds.items()],
        "growth_mib_per_10000": {"slope": slope, "upper_95": upper},
        "requests": samples[-1].requests,
        "wrong": load.wrong[:20],
        "samples": [asdict(sample) for sample in samples],
    }


def growth(samples: Sequence[Sample]) -> tuple[float, float]:
    """MiB in 10,000 requests: the slope, and the upper end of its 95 % interval."""
    minutes: dict[int, list[Sample]] = {}
    for sample in samples:
        minutes.setdefault(int(sample.seconds // 60), []).append(sample)
    groups = list(minutes.values()) if len(minutes) >= 5 else [[sample] for sample in samples]
    requests = [float(np.mean([s.requests for s in group])) for group in groups]
    resident = [float(np.mean([s.resident for s in group])) for group in groups]
    line: Any = stats.linregress(requests, resident)
    scale = PER_REQUESTS / MEBIBYTE
    half = stats.t.ppf(0.975, len(groups) - 2) * line.stderr
    return float(line.slope * scale), float((line.slope + half) * scale)


def draw(samples: Sequence[Sample], report: dict[str, Any], path: Path) -> None:
    """Memory against requests."""
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(8, 3.5), layout="constrained")
        axes = figure.subplots()
        axes.plot([s.requests for s in samples], [s.resident / MEBIBYTE for s in samples])
        axes.set(xlabel="requests answered", ylabel="resident memory, MiB", ylim=(0, None))
        axes.set_title(report["verdicts"][0])
        figure.savefig(path, dpi=120)


def _look(pid: int, seconds: float, load: Load) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return Sample(
        seconds=round(seconds, 3),
        requests=load.statuses.total(),
        resident=int(fields["VmRSS"].split()[0]) * 1024,
        files=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        threads=int(fields["Threads"]),
    )


def _client(
    number: int, url: str, pictures: Sequence[Picture], load: Load, is_over: threading.Event
) -> None:
    rng = random.Random(number)
    with httpx.Client(base_url=url, timeout=60) as client:
        while not is_over.is_set():
            call = rng.choice(CALLS)
            call(client, rng.choice(pictures), load, rng)


def _encode_file(client: httpx.Client, picture: Picture, load: Load, rng: random.Random) -> None:
    format = rng.choice(["png", "webp", "jpeg"])
    body = write_image(picture.pixels, format, 90)
    answer = client.post("/v1/encode", content=body, headers={"Content-Type": f"image/{format}"})
    right = None
    # The others lose something: their tokens are another picture's.
    if format == "png" and answer.status_code == 200:
        right = np.array_equal(answer.json()["items"][0]["tokens"], picture.tokens)
    load.note(answer.status_code, f"encode {format} {picture.pixels.shape}", right=right)


def _encode_array(client: httpx.Client, picture: Picture, load: Load, rng: random.Random) -> None:
    count = rng.choice([1, 3, 17])
    body = write_array(np.stack([picture.pixels] * count))
    headers = {"Content-Type": NPY, "Accept": NPY}
    answer = client.post("/v1/encode", content=body, headers=headers)
    right = None
    if answer.status_code == 200:
        right = bool((read_array(answer.content) == picture.tokens).all())
    load.note(answer.status_code, f"encode {count} of {picture.pixels.shape}", right=right)


def _decode(client: httpx.Client, picture: Picture, load: Load, rng: random.Random) -> None:
    height, width = picture.pixels.shape[:2]
    body = write_array(picture.tokens[None])
    headers = {"Content-Type": NPY, "Accept": NPY, "Vqtok-Image-Size": f"{height}x{width}"}
    answer = client.post("/v1/decode", content=body, headers=headers)
    right = None
    if answer.status_code == 200:
        right = bool((read_array(answer.content)[0] == picture.back).all())
    load.note(answer.status_code, f"decode {picture.tokens.shape}", right=right)


def _reconstruct(client: httpx.Client, picture: Picture, load: Load, rng: random.Random) -> None:
    headers = {"Content-Type": NPY, "Accept": NPY}
    answer = client.post(
        "/v1/reconstruct", content=write_array(picture.pixels[None]), headers=headers
    )
    right = None
    if answer.status_code == 200:
        right = bool((read_array(answer.content)[0] == picture.back).all())
    load.note(answer.status_code, f"reconstruct {picture.pixels.shape}", right=right)


def _sample(client: httpx.Client, picture: Picture, load: Load, rng: random.Random) -> None:
    answer = client.post("/v1/sample", json={"n": rng.choice([1, 2]), "seed": rng.randrange(9)})
    load.note(answer.status_code, "sample", right=None)


def _break(client: httpx.Client, picture: Picture, load: Load, rng: random.Random) -> None:
    body = write_image(picture.pixels, "png", 90)
    cut = body[: rng.randrange(len(body))]
    answer = client.post("/v1/encode", content=cut, headers={"Content-Type": "image/png"})
    load.note(answer.status_code, "a cut image", right=None)


CALLS = (_encode_file, _encode_file, _encode_array, _decode, _reconstruct, _sample, _break)


if __name__ == "__main__":
    sys.exit(main())
