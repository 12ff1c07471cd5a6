"""Examples that a reader can send as they are, to any model of depth 1."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.images import write_image

SIDE = 16


def example_pixels() -> NDArray[np.uint8]:
    """A small picture, uint8 (16, 16, 3): two gradients."""
    ramp = np.linspace(0, 255, SIDE).round().astype(np.uint8)
    rows, columns = (
        np.broadcast_to(ramp[:, None], (SIDE, SIDE)),
        np.broadcast_to(ramp, (SIDE, SIDE)),
    )
    return np.stack([rows, columns, 255 - rows], axis=-1)


EXAMPLE_IMAGE = base64.b64encode(write_image(example_pixels())).decode()
_ID = "4f2c9a7d10b3" + "0" * 52
_IDS: dict[str, Any] = {"model": "cifar10-gmvq@1", "codebook_id": _ID, "tokenizer_id": _ID}
_ITEM: dict[str, Any] = {"grid": [2, 2], "size": [8, 8], "tokens": [[0, 1], [2, 3]]}

IMAGES_SENT: dict[str, Any] = {"images": [EXAMPLE_IMAGE, EXAMPLE_IMAGE]}
TOKENS_SENT: dict[str, Any] = {"items": [_ITEM]}
PAINTED_IN_SENT: dict[str, Any] = {
    "seed": 7,
    "grid": [2, 2],
    "tokens": [[0, 0], [2, 3]],
    "mask": [[False, False], [True, True]],
}
SAMPLE_SENT: dict[str, Any] = {"n": 2, "seed": 7, "temperature": 0.9}

TOKENS_GIVEN: dict[str, Any] = {**_IDS, "preprocess": "pad", "items": [_ITEM]}
TOKENS_GIVEN_WITH_ERROR: dict[str, Any] = {
    **TOKENS_GIVEN,
    "items": [
        _ITEM,
        {"error": {"code": "broken_image", "detail": "Image 1: The PNG file does not decode."}},
    ],
}
IMAGES_GIVEN: dict[str, Any] = {"images": [EXAMPLE_IMAGE]}
SAMPLES_GIVEN: dict[str, Any] = {
    **_IDS,
    "preprocess": None,
    "prior": "position-table",
    "seed": 7,
    "temperature": 0.9,
    "windowed": True,
    "items": [{**_ITEM, "bits": 21.5, "drawn_bits": 20.75}],
}
RECONSTRUCTIONS_GIVEN: dict[str, Any] = {
    **_IDS,
    "preprocess": "pad",
    "quality": [{"mse": 0.0034, "psnr": 24.7, "ssim": 0.83}],
    "images": [EXAMPLE_IMAGE],
}
