"""What calls of a model take inside a server, for another process to read."""

import contextlib
import threading
import time
from collections.abc import Generator
from pathlib import Path

import numpy as np


class SessionClock:
    """Processor seconds of calls so far, by the clocks of the threads that make them. They stand in
    a file that server and benchmark share; whoever comes first makes it.
    """

    def __init__(self, file: Path) -> None:
        file.touch()
        if not file.stat().st_size:
            file.write_bytes(bytes(8))
        self._seconds = np.memmap(file, np.float64, "r+", shape=(1,))
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """Of all calls that have ended."""
        return float(self._seconds[0])

    @contextlib.contextmanager
    def counting(self) -> Generator[None]:
        """Count what this thread does inside."""
        started = time.thread_time()
        try:
            yield
        finally:
            with self._lock:
                self._seconds[0] += time.thread_time() - started
