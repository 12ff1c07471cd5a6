"""The project's programs as processes of their own: awaited, killed, or two that share a run."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
NUM_PROCESSES = 2
Process = subprocess.Popen[str]


def start(*arguments: str, environment: Mapping[str, str] | None = None) -> Process:
    """`python -m …` with an environment that has more than this one."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=os.environ | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(*arguments: str) -> list[Process]:
    """`python -m …` twice, as the two processes that torchrun would start on this machine."""
    shared = {
        "WORLD_SIZE": str(NUM_PROCESSES),
        "LOCAL_WORLD_SIZE": str(NUM_PROCESSES),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "TORCHELASTIC_RUN_ID": "test",
        "OMP_NUM_THREADS": "1",
    }
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(NUM_PROCESSES)]
    return [start(*arguments, environment=shared | rank) for rank in ranks]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def ended(*processes: Process, seconds: float = 200.0) -> list[str]:
    """What each printed; an AssertionError with its complaint where one failed."""
    try:
        printed = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, complaint) in zip(processes, printed, strict=True):
        assert process.returncode == 0, complaint
    return [output for output, _ in printed]


def kill_when(ready: Callable[[], bool], *processes: Process) -> None:
    """SIGKILL them as soon as `ready`; an AssertionError where one ends before."""
    try:
        while not ready():
            assert all(process.poll() is None for process in processes), "it ended unkilled"
            time.sleep(0.001)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()
    assert {process.returncode for process in processes} == {-signal.SIGKILL}


def made_by_two(program: str, folder: Path) -> list[Any]:
    """What each process of the module `program`, given `folder`, hands over by `save`."""
    ended(*start_two(program, str(folder)))
    return [torch.load(_file(folder, rank)) for rank in range(NUM_PROCESSES)]


def save(made: Any, rank: int, folder: Path) -> None:
    torch.save(made, _file(folder, rank))


def _file(folder: Path, rank: int) -> Path:
    return folder / f"{rank}.pt"
