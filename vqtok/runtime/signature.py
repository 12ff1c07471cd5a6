"""Names, types and ranks of a graph's inputs and outputs, compared with the manifest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vqtok.errors import BundleCorrupt
from vqtok.manifest import Manifest


@dataclass(frozen=True)
class Port:
    """An input or output of a graph. `dtype` is a numpy name such as "uint8"; in `shape` a
    dynamic axis is None, and the whole is None where the graph does not say.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """What a graph takes and gives."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def check_encoder(signature: Signature, manifest: Manifest, file: str) -> None:
    """uint8 "pixels" (N, H, W, 3) -> int32 "tokens" and the float32 outputs of the manifest.

    Raises:
        BundleCorrupt: naming `file` and the input or output that differs.
    """
    _check_inputs(signature, [Port("pixels", "uint8", (None, None, None, 3))], file)
    for name in manifest.outputs:
        if name == "tokens":
            _check_output(signature, name, "int32", 1 + len(manifest.grid), file)
        else:
            _check_output(signature, name, "float32", 3, file)


def check_decoder(signature: Signature, manifest: Manifest, file: str) -> None:
    """int32 "tokens" (N, h, w[, depth]) -> uint8 "pixels" (N, H, W, 3).

    Raises:
        BundleCorrupt: naming `file` and the input or output that differs.
    """
    tokens = Port("tokens", "int32", (None, None, None, *manifest.grid[2:]))
    _check_inputs(signature, [tokens], file)
    _check_output(signature, "pixels", "uint8", 4, file)


def check_prior(signature: Signature, manifest: Manifest, file: str) -> None:
    """int32 "tokens" (N, positions), "labels" (N,) and "positions" (N, P) -> float32 "logits" (N,
    P, K).

    Raises:
        BundleCorrupt: naming `file` and the input or output that differs.
    """
    num_positions = math.prod(manifest.grid)
    expected = (
        Port("tokens", "int32", (None, num_positions)),
        Port("labels", "int32", (None,)),
        Port("positions", "int32", (None, None)),
    )
    _check_inputs(signature, expected, file)
    _check_output(signature, "logits", "float32", 3, file)
    codes = {port.name: port.shape for port in signature.outputs}["logits"]
    if codes is not None and codes[2] not in (None, manifest.codebook_size):
        raise BundleCorrupt(f"{file}: logits are of {codes[2]} codes, the manifest's of others.")


def _check_inputs(signature: Signature, expected: Sequence[Port], file: str) -> None:
    names, wanted = ([port.name for port in ports] for ports in (signature.inputs, expected))
    if names != wanted:
        inputs = "one input" if len(wanted) == 1 else "the inputs"
        raise BundleCorrupt(f"{file} takes {names}, not {inputs} {', '.join(map(repr, wanted))}.")
    for port, other in zip(signature.inputs, expected, strict=True):
        _check_port(port, other, file)


def _check_port(port: Port, expected: Port, file: str) -> None:
    _check_dtype(port, expected.dtype, file)
    if port.shape is None or expected.shape is None:
        return
    if len(port.shape) != len(expected.shape):
        raise BundleCorrupt(
            f"{file}: {port.name} has rank {len(port.shape)}, not {len(expected.shape)}."
        )
    for axis, (size, wanted) in enumerate(zip(port.shape, expected.shape, strict=True)):
        if wanted is None and size is not None:
            raise BundleCorrupt(
                f"{file}: axis {axis} of {port.name} is fixed to {size}; it must be dynamic."
            )
        if wanted is not None and size not in (None, wanted):
            raise BundleCorrupt(f"{file}: axis {axis} of {port.name} is {size}, not {wanted}.")


def _check_output(signature: Signature, name: str, dtype: str, rank: int, file: str) -> None:
    ports = {port.name: port for port in signature.outputs}
    if name not in ports:
        raise BundleCorrupt(f"{file} has no output {name!r}, only {sorted(ports)}.")
    port = ports[name]
    _check_dtype(port, dtype, file)
    if port.shape is not None and len(port.shape) != rank:
        raise BundleCorrupt(f"{file}: {name} has rank {len(port.shape)}, not {rank}.")


def _check_dtype(port: Port, dtype: str, file: str) -> None:
    if port.dtype != dtype:
        raise BundleCorrupt(f"{file}: {port.name} is {port.dtype}, not {dtype}.")
