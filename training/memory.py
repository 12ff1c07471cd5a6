"""How much memory the exported graphs need for a pixel, measured in a process of its own."""

import multiprocessing
import re
from pathlib import Path

import numpy as np

from vqtok.bundle import Bundle
from vqtok.runtime.onnx import open_engine

SIDES = (512, 1024)


def bytes_per_pixel(folder: Path) -> dict[str, float]:
    """Growth of the peak resident memory from a 512 to a 1,024 pixel square, per pixel."""
    context = multiprocessing.get_context("spawn")
    figures: dict[str, float] = {}
    for graph in ("encoder", "decoder"):
        # A peak never falls: each size has a process to itself.
        with context.Pool(1, maxtasksperchild=1) as pool:
            small, large = (pool.apply(_peak, (folder, graph, side)) for side in SIDES)
        pixels = SIDES[1] ** 2 - SIDES[0] ** 2
        figures[f"{graph}_bytes_per_pixel"] = round((large - small) / pixels, 1)
    return figures


def _peak(folder: Path, graph: str, side: int) -> int:
    bundle = Bundle.open(folder)
    engine = open_engine(bundle, "cpu", num_threads=1)
    if graph == "encoder":
        engine.encode(np.zeros((1, side, side, 3), np.uint8))
    else:
        grid = bundle.manifest.grid_of(side, side)
        engine.decode(np.zeros((1, *grid), np.int32))
    return _peak_bytes()


def _peak_bytes() -> int:
    """This program's peak resident memory; `getrusage` would count its parent's before exec."""
    status = Path("/proc/self/status").read_text()
    kibibytes = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert kibibytes is not None
    return int(kibibytes.group(1)) * 1024
