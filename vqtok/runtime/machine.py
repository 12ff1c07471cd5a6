"""What the last digits of a network's output depend on, in words that can be compared.

Runtimes choose their kernels by the processor's instruction sets, and sums in another order end in
other digits. Whoever needs the very same digits again needs all of this to be the same; more may
matter, which only a checksum tells.
"""

import ctypes
import importlib.metadata
import platform
from pathlib import Path

SETS = {
    "flags": ("sse4", "avx", "fma", "f16c", "amx"),
    "Features": ("asimd", "fphp", "bf16", "i8mm", "sve", "sme"),
}
"""By the key under which x86 and ARM list them: how the names of those instruction sets begin that
arithmetic is written for.
"""
CUDA_WHEELS = ("nvidia-cublas-cu12", "nvidia-cublas")


def runtime_text(version: str, provider: str, num_rows: int, device: str) -> str:
    """What a session of onnxruntime runs on: its `version`, the execution `provider`, the rows of a
    run, and the `device` as `processor` or `graphics_card` name it.
    """
    return f"onnxruntime {version}, {provider} by {num_rows}, {device}"


def processor(system_root: Path = Path("/")) -> str:
    """System, architecture, name and instruction sets of the processor; `system_root` is where
    /proc is looked for.
    """
    facts = _cpuinfo(system_root / "proc/cpuinfo")
    names = [facts[key] for key in ("model name", "CPU implementer", "CPU part") if key in facts]
    sets = sorted(
        each
        for key, beginnings in SETS.items()
        for each in facts.get(key, "").split()
        if each.startswith(beginnings)
    )
    parts = [
        f"{platform.system()} {platform.machine()}",
        " ".join(names) or platform.processor() or "an unnamed processor",
        " ".join(sets),
    ]
    return ", ".join(part for part in parts if part)


def graphics_card() -> str:
    """The first CUDA device, the version of CUDA that its driver has, and that of the library which
    multiplies matrices, where it came as a wheel.
    """
    wheels = [f"{name} {version}" for name in CUDA_WHEELS if (version := _version(name))]
    return ", ".join([f"{platform.system()} {platform.machine()}", _cuda_device(), *wheels])


def _cuda_device() -> str:
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "an unnamed GPU"
    device, version, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(128)
    failed = (
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetName(name, len(name), device)
        or cuda.cuDriverGetVersion(ctypes.byref(version))
    )
    return "an unnamed GPU" if failed else f"{name.value.decode()}, CUDA {version.value}"


def _cpuinfo(path: Path) -> dict[str, str]:
    """What the system says of the first core."""
    try:
        first = path.read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
