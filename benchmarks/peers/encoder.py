"""What every peer serves: the encoder's graph on one thread, and the JPEG decoder of vqtok."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import simplejpeg

Encode = Callable[[Sequence[bytes]], list[list[list[int]]]]


def open_encoder(graph: Path) -> Encode:
    """Bytes of JPEG files of one size to tokens (h, w), as many at a time as are given."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name, output = session.get_inputs()[0].name, session.get_outputs()[0].name

    def encode(files: Sequence[bytes]) -> list[list[list[int]]]:
        pixels = np.stack([simplejpeg.decode_jpeg(each, colorspace="RGB") for each in files])
        return session.run([output], {name: pixels})[0].tolist()

    return encode


def arguments() -> tuple[int, Path, dict[str, Any]]:
    """The port, the graph, and the settings of the peer that are tried."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--settings", type=json.loads, default={})
    found = parser.parse_args()
    return found.port, found.graph, found.settings
