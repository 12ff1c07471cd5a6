"""The number of usable cores, read from a tree of files as the kernel shows it."""

import os
from pathlib import Path

import pytest

from vqtok.runtime.cores import usable_cores

AFFINITY = len(os.sched_getaffinity(0))


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_cgroups_affinity_decides(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == AFFINITY


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("50000 100000\n", 1),
        ("100000 100000\n", 1),
        ("150000 100000\n", 2),
        ("max 100000\n", 99),
        ("1000 0\n", 99),
        ("rubbish", 99),
    ],
)
def test_a_quota_of_version_two_is_rounded_up(tmp_path: Path, quota: str, cores: int) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": quota}
    assert usable_cores(machine(tmp_path, files)) == min(AFFINITY, cores)


def test_the_quota_of_a_parent_group_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pod/container\n",
        "sys/fs/cgroup/pod/cpu.max": "100000 100000",
        "sys/fs/cgroup/pod/container/cpu.max": "max 100000",
    }
    assert usable_cores(machine(tmp_path, files)) == 1


@pytest.mark.parametrize(("quota", "cores"), [("100000\n", 1), ("-1\n", 99)])
def test_a_quota_of_version_one_counts(tmp_path: Path, quota: str, cores: int) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/x\n",
        "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": quota,
        "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
    }
    assert usable_cores(machine(tmp_path, files)) == min(AFFINITY, cores)
