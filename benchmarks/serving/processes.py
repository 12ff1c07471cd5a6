"""Servers as processes on cores of their own, and what they use by the system's accounts."""

import contextlib
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

ROOT = Path(__file__).parents[2]
READY_SECONDS = 120.0


class Server:
    """A command on `cores`, with everything it starts; a context manager that ends all of it.

    `ready` is a path that answers 200 when requests are taken.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        *,
        ready: str,
        cores: Sequence[int],
        environment: Mapping[str, str] | None = None,
        folder: Path = ROOT,
    ) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self._ready = ready
        pinned = ["taskset", "-c", ",".join(map(str, cores)), *command]
        self._popen = subprocess.Popen(
            pinned,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait_ready(self) -> Self:
        """Wait until requests are taken. Raises RuntimeError if the process ends before that."""
        ends_at = time.monotonic() + READY_SECONDS
        while True:
            if self._popen.poll() is not None or time.monotonic() > ends_at:
                raise RuntimeError(f"{self.name} is not ready: {self._popen.args}")
            try:
                if httpx.get(self.url + self._ready).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.1)

    def pause(self) -> None:
        """Stop everything of it, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def processor_seconds(self) -> float:
        """User and system time of all its processes so far."""
        return sum(_processor_seconds(pid) for pid in self._pids())

    def memory(self) -> int:
        """Bytes of all its processes; what several share counts once (PSS)."""
        return sum(_proportional_bytes(pid) for pid in self._pids())

    def _signal(self, number: signal.Signals, pids: Sequence[int] | None = None) -> None:
        for pid in self._pids() if pids is None else pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pids(self) -> list[int]:
        """Of the session that it leads, and everything below it: some peers start workers in
        sessions of their own. Without those that have ended.
        """
        found = {int(path.parent.name): _stat(path) for path in Path("/proc").glob("[0-9]*/stat")}
        running = {pid: fields for pid, fields in found.items() if fields is not None}
        own = {pid for pid, fields in running.items() if int(fields[3]) == self._popen.pid}
        while more := {p for p, f in running.items() if int(f[1]) in own} - own:
            own |= more
        return sorted(own)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        workers = self._pids()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGTERM)
        try:
            self._popen.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
        # Workers may outlive the process that started them.
        self._signal(signal.SIGKILL, workers)


def free_port() -> int:
    """A port that is free, and two more after it that some servers take too."""
    # The system gives callers theirs from 32768 on, and one of those would be in the way.
    return next(port for port in random.sample(range(20000, 30000), 10000) if _are_free(port))


def require_programs(*names: str) -> None:
    """Raise RuntimeError naming the programs that are missing."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        raise RuntimeError(f"missing programs: sudo apt-get install {' '.join(missing)}")


def processor_name() -> str:
    """The processor by its name, and how many cores there are."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.machine())}, {os.cpu_count()} cores"


class Neighbours:
    """What others who share a virtual machine's processors take of them, since this was made."""

    def __init__(self) -> None:
        self._before = _stolen_and_all()

    def share(self) -> float:
        """Of the time of all cores, 0 to 1; 0 on a machine that nobody shares."""
        stolen, everything = (
            now - then for now, then in zip(_stolen_and_all(), self._before, strict=True)
        )
        return stolen / max(1, everything)


def _stolen_and_all() -> tuple[int, int]:
    """By the first line of /proc/stat, proc_stat(5); time of guests is in that of users."""
    numbers = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return numbers[7], sum(numbers)


def in_words(stolen_share: float) -> str:
    """How loud the machine was."""
    return f"others took {100 * stolen_share:.0f} % of the processors' time meanwhile"


def _are_free(first: int) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            for port in range(first, first + 3):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:
            return False
    return True


def _stat(path: Path) -> list[str] | None:
    """The fields of a stat file after the name of the command, which may hold anything."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _processor_seconds(pid: int) -> float:
    """By the clock of that process (clock_getcpuclockid(3)), which counts nanoseconds where its
    stat file counts hundredths of a second.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
