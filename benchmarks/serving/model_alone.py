"""onnxruntime in a process of its own, without any server: what the model itself costs."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.serving.processes import ROOT

SCRIPT = """\
import sys, time
import numpy as np
from vqtok.bundle import Bundle
from vqtok.runtime.onnx import open_engine
engine = open_engine(Bundle.open(sys.argv[1]), "cpu", num_threads=1)
images = np.load(sys.argv[2])
for line in sys.stdin:
    size, seconds = int(line.split()[0]), float(line.split()[1])
    started, done = time.process_time(), 0
    while time.process_time() - started < seconds:
        for first in range(0, len(images), size):
            engine.encode(images[first : first + size])
            done += len(images[first : first + size])
    print((time.process_time() - started) / done, flush=True)
"""


ProcessorSeconds = Callable[[int, float], float]
"""Processor seconds an image, so many at a time, over about so many seconds."""


@contextmanager
def model_alone(bundle: Path, images: np.ndarray, core: int) -> Generator[ProcessorSeconds]:
    """Inside, images (n, H, W, 3) are encoded on one core when the function is called, which raises
    RuntimeError when the process has ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder, "images.npy")
        np.save(pictures, images)
        command = [sys.executable, "-c", SCRIPT, str(bundle), str(pictures)]
        with subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            yield lambda size, seconds: _asked(process, size, seconds)
            process.communicate()


def _asked(process: subprocess.Popen[str], size: int, seconds: float) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{size} {seconds}\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError("the model's process has ended")
    return float(answer)
