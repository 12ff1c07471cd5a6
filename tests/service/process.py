"""The service as a process of its own, met over real sockets."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

ROOT = Path(__file__).parents[2]
LISTENING = re.compile(r"listening on http://[^ ]*:([0-9]+)")
ENDED = re.compile(r"ended, admitted=([0-9]+) cut=([0-9]+)")


class ServiceProcess:
    """`python -m MODULE FLAGS` on a free port; a context manager that ends it by SIGTERM.

    `log` grows with the lines that the process writes to stderr.
    """

    def __init__(self, flags: Sequence[str], module: str = "service") -> None:
        command = [sys.executable, "-m", module, "--port", "0", *flags]
        self.log: list[str] = []
        self._popen = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.port = int(self.wait_for(LISTENING)[1])
        except AssertionError:
            self._popen.kill()
            self.wait()
            raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait_for(self, pattern: re.Pattern[str], seconds: float = 30.0) -> re.Match[str]:
        """The first line of the log that matches, waiting for it."""
        ends_at = time.monotonic() + seconds
        while True:
            is_over = not self._reader.is_alive()
            for line in list(self.log):
                if match := pattern.search(line):
                    return match
            assert not is_over, f"the service ended: {self.log}"
            assert time.monotonic() < ends_at, f"no {pattern.pattern!r} in {self.log}"
            time.sleep(0.01)

    def wait_ready(self, seconds: float = 60.0) -> Self:
        """Wait until requests are taken."""
        ends_at = time.monotonic() + seconds
        while httpx.get(f"{self.url}/health/ready").status_code != 200:
            assert time.monotonic() < ends_at, f"not ready: {self.log}"
            time.sleep(0.02)
        return self

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        self._popen.send_signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal and return at once."""
        self._popen.send_signal(number)

    def wait(self, seconds: float = 40.0) -> int:
        """The exit status."""
        status = self._popen.wait(seconds)
        self._reader.join(seconds)
        assert self._popen.stderr is not None
        self._popen.stderr.close()
        return status

    def admitted(self) -> int:
        """How many requests were admitted in all; the process has ended."""
        return int(self.wait_for(ENDED)[1])

    def peak_memory(self) -> int:
        """The largest resident memory so far, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s*([0-9]+) kB", status)[1]) * 1024  # type: ignore[index]

    def _read(self) -> None:
        assert self._popen.stderr is not None
        for line in self._popen.stderr:
            self.log.append(line.rstrip())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._popen.returncode is None:
            self.terminate()
        try:
            self.wait(10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self.wait()


def counter(metrics: str, name: str, **labels: str) -> float:
    """The value of one series in the text of /metrics; 0 when it is not there."""
    for line in metrics.splitlines():
        match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if match is None or match[1] != name:
            continue
        found = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
        if found == labels:
            return float(match[3])
    return 0.0
