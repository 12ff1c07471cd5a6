"""Bundles spoilt on purpose, and their proof."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from vqtok.bundle import Bundle, Reference, golden_check
from vqtok.runtime.onnx import open_engine


def reseal(folder: Path, name: str, data: bytes) -> None:
    """Put other bytes in place with a digest that fits, as a careless hand would."""
    (folder / name).write_bytes(data)
    change_manifest(folder, lambda d: d["digests"].update({name: hashlib.sha256(data).hexdigest()}))


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / "manifest.json").read_bytes())
    change(document)
    (folder / "manifest.json").write_text(json.dumps(document))


def change_reference(folder: Path, **changes: Any) -> None:
    reference = Reference.from_npz((folder / "reference.npz").read_bytes())
    reseal(folder, "reference.npz", replace(reference, **changes).to_npz())


def change_weight(folder: Path, file: str, change: Callable[[Any], Any], which: int = 0) -> None:
    """Change one convolution kernel of a graph, its digest with it."""
    model = onnx.load_from_string((folder / file).read_bytes())
    kernels = [c for c in model.graph.initializer if len(c.dims) == 4]
    changed = change(numpy_helper.to_array(kernels[which]).copy())
    kernels[which].CopyFrom(numpy_helper.from_array(changed, kernels[which].name))
    reseal(folder, file, model.SerializeToString())


def prove(folder: Path) -> None:
    bundle = Bundle.open(folder)
    engine = open_engine(bundle, "cpu", num_threads=1)
    golden_check(engine, bundle.reference)
