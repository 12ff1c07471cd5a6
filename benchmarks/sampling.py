"""What drawing samples takes beside the calls of the prior that it makes.

    python -m benchmarks.sampling

Sixteen grids of tokens, on one core: drawn in process, and by onnxruntime alone, which runs the
prior's graph as often, at the same shape. Both are measured in turn, many times over.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from rich.progress import track

from benchmarks.serving.processes import processor_name
from vqtok.bundle import Bundle
from vqtok.errors import InvalidParameter
from vqtok.priors import Wish, draw_all
from vqtok.priors.spec import PRIOR_FILE
from vqtok.runtime.onnx import prior_of

IMAGES = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the report as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/cifar10-gmvq"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args(arguments)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    report = measure(Bundle.open(chosen.bundle), chosen.rounds)
    if chosen.output is not None:
        chosen.output.write_text(json.dumps(report, indent=1) + "\n")
    ratios = np.array(report["drawing"]) / np.array(report["onnxruntime alone"])
    low, middle, high = np.quantile(ratios, [0.025, 0.5, 0.975])
    sys.stdout.write(
        f"{IMAGES} grids in {report['passes']} passes: drawing takes {middle:.3f} ({low:.3f} to "
        f"{high:.3f}) of what onnxruntime alone takes for the same calls\n"
    )
    return 0


def measure(bundle: Bundle, rounds: int) -> dict[str, Any]:
    """Seconds of each, a list over the rounds.

    Raises InvalidParameter for a bundle without a learned prior.
    """
    if bundle.manifest.prior is None:
        raise InvalidParameter(f"{bundle.folder} has no learned prior: add one first.")
    prior = prior_of(bundle, bundle.reference, "cpu")
    things: dict[str, Callable[[int], object]] = {
        "drawing": lambda seed: draw_all(prior, Wish(n=IMAGES, seed=seed + 1)),
        "onnxruntime alone": _calls(bundle),
    }
    seen: dict[str, Any] = {name: [] for name in things}
    for number in track(range(-1, rounds), "measuring"):
        for name, thing in things.items():
            started = time.perf_counter()
            thing(number)
            if number >= 0:
                seen[name].append(time.perf_counter() - started)
    return {"hardware": processor_name(), "passes": max(bundle.manifest.prior.groups) + 1, **seen}


def _calls(bundle: Bundle) -> Callable[[int], None]:
    """The prior's graph on one thread, a row at a time, as often as the samples need it."""
    spec = bundle.manifest.prior
    assert spec is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        bundle.read(PRIOR_FILE), options, providers=["CPUExecutionProvider"]
    )
    size = int(np.prod(bundle.manifest.grid))
    passes, most = max(spec.groups) + 1, int(np.bincount(spec.groups).max())
    feed = {
        "tokens": np.full((1, size), bundle.manifest.codebook_size, np.int32),
        "labels": np.zeros(1, np.int32),
        "positions": np.zeros((1, most), np.int32),
    }

    def run(_: int) -> None:
        for _ in range(IMAGES * passes):
            session.run(["logits"], feed)

    return run


if __name__ == "__main__":
    sys.exit(main())
