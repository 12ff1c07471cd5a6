"""onnxruntime in a process of its own, without any server: what the model itself costs."""

import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

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


class ModelAlone:
    """Encodes images (n, H, W, 3) on one core when it is asked to; a context manager."""

    def __init__(self, bundle: Path, images: np.ndarray, core: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            pictures = Path(folder, "images.npy")
            np.save(pictures, images)
            command = [sys.executable, "-c", SCRIPT, str(bundle), str(pictures)]
            self._popen = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            # The images have been read once it answers.
            self.processor_seconds(1, 0.1)

    def processor_seconds(self, size: int, seconds: float = 0.5) -> float:
        """Processor seconds an image, so many at a time, over about so many seconds.

        Raises:
            RuntimeError: the process has ended.
        """
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(f"{size} {seconds}\n")
        self._popen.stdin.flush()
        answer = self._popen.stdout.readline()
        if not answer:
            raise RuntimeError("the model's process has ended")
        return float(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._popen.communicate()
