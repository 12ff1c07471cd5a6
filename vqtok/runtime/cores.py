"""How many cores this process may really use."""

import math
import os
from pathlib import Path


def usable_cores(system_root: Path = Path("/")) -> int:
    """Cores by CPU affinity and by the quota of the process's cgroup, at least 1.

    A container is often given a share of a large machine: the core count of the host then only
    makes threads wait for each other. `system_root` is where /proc and /sys are looked for.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, math.ceil(min(cores or 1, _quota(system_root))))


def _quota(root: Path) -> float:
    """Cores allowed by the cgroup and all its parents; infinite where none limits them."""
    memberships = _lines(root / "proc/self/cgroup")
    quotas = [math.inf]
    for line in memberships:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        relative = path.lstrip("/")
        if not controllers:
            quotas += [_v2(folder) for folder in _up(root / "sys/fs/cgroup", relative)]
        elif "cpu" in controllers.split(","):
            quotas += [_v1(folder) for folder in _up(root / "sys/fs/cgroup/cpu", relative)]
    return min(quotas)


def _up(mount: Path, relative: str) -> list[Path]:
    """The group's folder and its parents down to the mount."""
    here = mount / relative
    return [here, *(parent for parent in here.parents if parent.is_relative_to(mount))]


def _v2(folder: Path) -> float:
    words = " ".join(_lines(folder / "cpu.max")).split()
    return _cores(words[0], words[1]) if len(words) == 2 else math.inf


def _v1(folder: Path) -> float:
    quota = _lines(folder / "cpu.cfs_quota_us")
    period = _lines(folder / "cpu.cfs_period_us")
    return _cores(quota[0], period[0]) if quota and period else math.inf


def _cores(quota: str, period: str) -> float:
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return math.inf  # "max" and -1 mean no limit
    return int(quota) / int(period)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
