"""What the rest of vqtok and the service know of a runtime."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vqtok.errors import InvalidInput
from vqtok.manifest import Manifest


@dataclass(frozen=True, eq=False)
class Encoded:
    """What an encoder says of n images.

    `tokens` int32 (n, h, w) or (n, h, w, depth), in 0 .. K - 1; `margins` float32 (n, h, w) in
    0 .. 1, how clearly each token won (smallest over depth); `quantisation_error` (squared
    distance) and `posterior_entropy` (bits), float32 (n, h, w), None where the model gives none.
    """

    tokens: NDArray[np.int32]
    margins: NDArray[np.float32]
    quantisation_error: NDArray[np.float32] | None = None
    posterior_entropy: NDArray[np.float32] | None = None


class GraphSource(Protocol):
    """Where an engine takes its graphs from; `vqtok.bundle.Bundle` is one."""

    @property
    def manifest(self) -> Manifest: ...

    def read(self, name: str) -> bytes:
        """The bytes of "encoder.onnx", "decoder.onnx" or "prior.onnx"."""
        ...


def known_outputs(manifest: Manifest) -> list[str]:
    """The encoder's outputs that `Encoded` has a field for."""
    return [name for name in manifest.outputs if name in Encoded.__dataclass_fields__]


class Engine(Protocol):
    """Runs one bundle on one device. Blocking; `encode` and `decode` may be called by as many
    threads at once as `num_runners` says, and the result never depends on the batch.

    `device` is "cpu" or "cuda"; `max_batch_images` is the largest batch worth giving.
    """

    @property
    def device(self) -> str: ...

    @property
    def num_runners(self) -> int: ...

    @property
    def max_batch_images(self) -> int: ...

    def encode(self, images: NDArray[np.uint8]) -> Encoded:
        """Tokens of uint8 RGB images (n, H, W, 3), H and W multiples of the factor.

        Raises:
            InvalidInput: another dtype or shape.
            ModelFailure: the runtime failed on this batch.
        """
        ...

    def decode(self, tokens: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Pictures uint8 (n, H, W, 3) of tokens int32 (n, h, w[, depth]).

        Token values are not looked at here: `vqtok.tokens.checked_tokens` does that.

        Raises:
            InvalidInput: another dtype or shape.
            ModelFailure: the runtime failed on this batch.
        """
        ...

    def close(self) -> None:
        """Give the device's memory back; the engine is not used afterwards."""
        ...


def require_images(images: NDArray[Any], factor: int) -> None:
    """Raise InvalidInput unless `images` is a batch that an encoder takes."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise InvalidInput(
            f"The encoder takes uint8 (n, H, W, 3), not {images.dtype} {images.shape}."
        )
    if 0 in images.shape or images.shape[1] % factor or images.shape[2] % factor:
        raise InvalidInput(
            f"Images of {images.shape[1]}x{images.shape[2]}: both sides must be multiples of "
            f"{factor}, and there must be at least one image."
        )


def require_tokens(tokens: NDArray[Any], depth: int) -> None:
    """Raise InvalidInput unless `tokens` is a batch that a decoder takes."""
    tail = (depth,) if depth > 1 else ()
    fits = tokens.ndim == 3 + len(tail) and tokens.shape[3:] == tail and 0 not in tokens.shape
    if tokens.dtype != np.int32 or not fits:
        wanted = ", ".join(["n", "h", "w", *map(str, tail)])
        raise InvalidInput(
            f"The decoder takes int32 ({wanted}), not {tokens.dtype} {tokens.shape}."
        )
