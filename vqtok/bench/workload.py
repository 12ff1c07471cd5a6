"""What is sent: requests made beforehand, so that making them costs nothing meanwhile."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from vqtok.bench.connections import Request
from vqtok.errors import InvalidParameter
from vqtok.images import ImageLimits, read_image, write_image
from vqtok.pictures import read_bytes
from vqtok.tokenizer import Tokenizer
from vqtok.wire import json_format, npy_format

ROUTES = ("encode", "decode", "reconstruct", "sample")
FORMATS = ("file", "npy")
MOST_REQUESTS = 64
JSON, NPY = json_format.MEDIA_TYPE, npy_format.MEDIA_TYPE


@dataclass(frozen=True)
class Workload:
    """What to ask for: a route, images of files, or made up at `size` (H, W, the
    model's own unless it is given), `batch` of them a
    request, sent as `send` "file" or "npy".
    """

    route: str = "encode"
    send: str = "file"
    batch: int = 1
    size: tuple[int, int] | None = None
    files: Sequence[Path] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.route not in ROUTES:
            raise InvalidParameter(f"route is one of {', '.join(ROUTES)}, not {self.route!r}.")
        if self.send not in FORMATS:
            raise InvalidParameter(f"send is one of {', '.join(FORMATS)}, not {self.send!r}.")


def make_requests(workload: Workload, tokenizer: Tokenizer) -> list[Request]:
    """Up to 64 different requests. Tokens for "decode" are those of the images by `tokenizer`.

    Raises:
        InvalidInput: a file that does not read; npy of files of several sizes.
    """
    if workload.route == "sample":
        return [_sample(workload.batch, seed) for seed in range(MOST_REQUESTS)]
    files = [read_bytes(path) for path in workload.files] or _made_up(
        workload, workload.size or tokenizer.info.native_size
    )
    groups = [
        [files[(start + i) % len(files)] for i in range(workload.batch)]
        for start in range(0, min(len(files), MOST_REQUESTS * workload.batch), workload.batch)
    ]
    return [_request(workload, group, tokenizer) for group in groups]


def _request(workload: Workload, files: list[bytes], tokenizer: Tokenizer) -> Request:
    path, count = f"/v1/{workload.route}", len(files)
    if workload.route == "decode":
        body = npy_format.encode_tokens(tokenizer.encode(files))
        return Request(path, {"Content-Type": NPY, "Accept": NPY}, body, count)
    accept = {"Accept": JSON if workload.send == "file" else NPY}
    if workload.send == "npy":
        body = npy_format.encode_images(_equal_sizes(files))
        return Request(path, {"Content-Type": NPY, **accept}, body, count)
    if count == 1:
        media_type = Image.open(io.BytesIO(files[0])).get_format_mimetype()
        return Request(path, {"Content-Type": media_type or "image/png", **accept}, files[0], 1)
    parts = [("images", (f"{number}", data)) for number, data in enumerate(files)]
    form = httpx.Request("POST", "http://any", files=parts)
    sent = {"Content-Type": form.headers["Content-Type"], **accept}
    return Request(path, sent, form.read(), count)


def _equal_sizes(files: list[bytes]) -> list[NDArray[np.uint8]]:
    images = [read_image(data, ImageLimits()) for data in files]
    if len({image.shape for image in images}) > 1:
        raise InvalidParameter("npy holds images of one size; send these as files.")
    return images


def _sample(count: int, seed: int) -> Request:
    body = orjson.dumps({"n": count, "seed": seed})
    accept = "application/zip" if count > 1 else "image/png"
    return Request("/v1/sample", {"Content-Type": JSON, "Accept": accept}, body, count)


def _made_up(workload: Workload, size: tuple[int, int]) -> list[bytes]:
    """PNG files of smooth noise, which have about the size of photographs'."""
    rng = np.random.default_rng(workload.seed)
    height, width = size
    coarse = (MOST_REQUESTS * min(workload.batch, 4), -(-height // 4), -(-width // 4), 3)
    noise = rng.integers(0, 256, coarse).astype(np.uint8)
    smooth = Image.Resampling.BICUBIC
    pictures = [Image.fromarray(each).resize((width, height), smooth) for each in noise]
    return [write_image(np.asarray(picture), "png") for picture in pictures]
