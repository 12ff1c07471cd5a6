"""The tokenizer behind HTTP."""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, Unpack
from urllib.parse import quote

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

from vqtok.bitstream import PACKED
from vqtok.errors import (
    BrokenImage,
    BundleError,
    InvalidInput,
    InvalidParameter,
    RemoteError,
    TooLarge,
    UnsupportedImage,
)
from vqtok.manifest import Manifest
from vqtok.parallel import ordered_map
from vqtok.pictures import ImageSource, named, require_mode
from vqtok.priors import SampleOptions, checked_wish
from vqtok.priors.document import sample_document
from vqtok.tokenizer import (
    Samples,
    Tokenizer,
    TokenizerInfo,
    Tokens,
    as_batch,
    checked_image_size,
    require_codebook,
)
from vqtok.tokens import ImageTokens, TokenBatch
from vqtok.transport import Call, Transport
from vqtok.uploads import RequestLimits, Upload, token_groups, upload_groups
from vqtok.wire import (
    DecodeOptions,
    bitstream_format,
    format_size,
    json_format,
    npy_format,
    parse_size,
)
from vqtok.wire.json_writing import dump

BITSTREAM = bitstream_format.MEDIA_TYPE
JSON = json_format.MEDIA_TYPE
NPY = npy_format.MEDIA_TYPE

CONCURRENT_CALLS = 4
ABOUT_AN_IMAGE = (BrokenImage, UnsupportedImage, TooLarge, InvalidParameter)

Result = TypeVar("Result")


def connect_tokenizer(
    url: str, *, model: str | None = None, api_key: str | None = None, timeout: float = 60.0
) -> "HttpTokenizer":
    """Ask a service for its model; see `Tokenizer.connect`."""
    transport = Transport(url, timeout, api_key=api_key)
    try:
        name = model or _default_model(transport)
        answer = transport.send(Call(method="GET", path=f"/v1/models/{quote(name)}"))
        manifest, limits = _understood(lambda: _read_model(answer.content))
    except BaseException:
        transport.close()
        raise
    return HttpTokenizer(transport, manifest, limits)


class HttpTokenizer(Tokenizer):
    """A `Tokenizer` whose model runs in a service.

    Arrays of one shape travel as npy, files as they are, whose tokens come as bitstreams. Long
    sequences become several requests, a few of them at once, and come back in order.
    """

    def __init__(self, transport: Transport, manifest: Manifest, limits: RequestLimits) -> None:
        self._transport = transport
        self._manifest = manifest
        self._limits = limits
        self._model = {"model": manifest.full_name}
        self._pool = ThreadPoolExecutor(CONCURRENT_CALLS, thread_name_prefix="vqtok-http")

    @property
    def info(self) -> TokenizerInfo:
        return TokenizerInfo.of(self._manifest)

    def encode(
        self,
        images: Sequence[ImageSource],
        preprocess: str = "pad",
        *,
        image_size: int | tuple[int, int] | None = None,
    ) -> TokenBatch:
        require_mode(preprocess)
        params = {**self._model, "preprocess": preprocess}
        size = checked_image_size(image_size)
        if size is not None:
            params["image_size"] = format_size(size)

        def run(group: list[Upload]) -> Sequence[ImageTokens]:
            return self._encode_group(group, params)

        groups = upload_groups(images, self._limits)
        parts = ordered_map(self._pool, run, groups, ahead=2 * CONCURRENT_CALLS)
        return self._batch(preprocess, [item for part in parts for item in part])

    def decode(self, tokens: Tokens) -> list[NDArray[np.uint8]]:
        batch = as_batch(tokens)
        manifest = self._manifest
        require_codebook(manifest.codebook_id, batch.codebook_id)
        checked = batch.checked(codebook_size=manifest.codebook_size, depth=manifest.depth)
        groups = token_groups(checked.images, self._limits, manifest.image.factor)
        parts = ordered_map(self._pool, self._decode_group, groups, ahead=2 * CONCURRENT_CALLS)
        return [picture for part in parts for picture in part]

    def sample(self, n: int = 1, **options: Unpack[SampleOptions]) -> Samples:
        wish = checked_wish(n, **options)
        answer = self._transport.send(
            Call(
                method="POST",
                path="/v1/sample",
                params=self._model,
                headers={"Content-Type": JSON, "Accept": JSON},
                content=dump(sample_document(wish)),
            )
        )
        batch = self._batch(None, _understood(lambda: self._items_of_json(answer.content)))
        entries = orjson.loads(answer.content)["items"]
        bits, drawn_bits = _understood(
            lambda: (_column(entries, "bits"), _column(entries, "drawn_bits"))
        )
        return Samples(self.decode(batch), batch, bits, drawn_bits, wish.seed)

    def codebook(self) -> NDArray[np.float32]:
        call = Call(method="GET", path="/v1/codebook", params=self._model, headers={"Accept": NPY})
        answer = self._transport.send(call)
        return _understood(lambda: npy_format.read_array(answer.content).astype(np.float32))

    def close(self) -> None:
        self._pool.shutdown()
        self._transport.close()

    def _encode_group(
        self, group: Sequence[Upload], params: dict[str, str]
    ) -> Sequence[ImageTokens]:
        pixels = [each.data for each in group if isinstance(each.data, np.ndarray)]
        if pixels:
            call = Call(
                method="POST",
                path="/v1/encode",
                params=params,
                headers={"Content-Type": NPY, "Accept": NPY},
                content=npy_format.encode_images(pixels),
            )
        else:
            files = [each.data for each in group if isinstance(each.data, bytes)]
            call = Call(
                method="POST",
                path="/v1/encode",
                # Mixed sizes in few bytes; another coder would need the bundle's tables to read.
                params={**params, "coder": PACKED},
                headers={"Accept": BITSTREAM},
                files=files,
            )
        answer = self._send_images(call, group)
        items = _understood(lambda: self._items(answer))
        if len(items) != len(group):
            raise RemoteError(f"The service answered {len(items)} items for {len(group)} images.")
        return items

    def _send_images(self, call: Call, group: Sequence[Upload]) -> httpx.Response:
        """The answer; an error that is about one image of the request names the caller's image."""
        try:
            return self._transport.send(call)
        except InvalidInput as error:
            about = re.match(r"Image ([0-9]+): ", error.detail)
            place = int(about[1]) if about else 0
            alone = len(group) == 1 and isinstance(error, ABOUT_AN_IMAGE)
            if place >= len(group) or not (about or alone):
                raise
            error.detail = error.detail[about.end() :] if about else error.detail
            with named(group[place].index, group[place].source):
                raise

    def _decode_group(self, group: Sequence[ImageTokens]) -> list[NDArray[np.uint8]]:
        headers = {
            "Content-Type": NPY,
            "Accept": NPY,
            "Vqtok-Codebook-Id": self._manifest.codebook_id,
        }
        if group[0].size is not None:
            headers["Vqtok-Image-Size"] = format_size(group[0].size)
        answer = self._transport.send(
            Call(
                method="POST",
                path="/v1/decode",
                params=self._model,
                headers=headers,
                content=npy_format.encode_tokens(self._batch(None, group)),
            )
        )
        pictures = _understood(lambda: npy_format.decode_images(answer.content))
        return [picture.copy() for picture in pictures]

    def _items(self, answer: httpx.Response) -> Sequence[ImageTokens]:
        if answer.headers["content-type"].startswith(BITSTREAM):
            return self._checked(bitstream_format.decode_tokens(answer.content))
        size = answer.headers.get("vqtok-image-size")
        options = DecodeOptions(size=parse_size(size) if size else None, answer=True)
        return self._checked(npy_format.decode_tokens(answer.content, options))

    def _items_of_json(self, body: bytes) -> Sequence[ImageTokens]:
        return self._checked(json_format.decode_tokens(body, DecodeOptions(answer=True)))

    def _checked(self, batch: TokenBatch) -> Sequence[ImageTokens]:
        manifest = self._manifest
        checked = batch.checked(codebook_size=manifest.codebook_size, depth=manifest.depth)
        return checked.images

    def _batch(self, preprocess: str | None, items: Sequence[ImageTokens]) -> TokenBatch:
        manifest = self._manifest
        ids = (manifest.full_name, manifest.codebook_id, manifest.tokenizer_id)
        return TokenBatch(*ids, preprocess, tuple(items))


def _default_model(transport: Transport) -> str:
    answer = transport.send(Call(method="GET", path="/v1/models"))
    return _understood(lambda: str(orjson.loads(answer.content)["models"][0]["name"]))


def _read_model(body: bytes) -> tuple[Manifest, RequestLimits]:
    document = orjson.loads(body)
    manifest = Manifest.from_json(orjson.dumps(document["manifest"]))
    return manifest, RequestLimits.of(document["limits"])


def _column(entries: Sequence[dict[str, Any]], name: str) -> NDArray[np.float64]:
    return np.array([each[name] for each in entries], np.float64)


def _understood(read: Callable[[], Result]) -> Result:
    """What `read` makes of an answer.

    Raises:
        RemoteError: the answer is not what a vqtok service says.
    """
    try:
        return read()
    except (InvalidInput, BundleError, ValueError, LookupError, TypeError) as error:
        raise RemoteError(f"The service's answer is not understood: {error}") from error
