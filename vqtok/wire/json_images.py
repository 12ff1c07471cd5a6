"""`application/json`: images as base64 of whole files, `{"images": ["…", …]}`.

A service's answer may have other keys beside the images, and in the place of one that failed
`{"error": {"code": "…", "detail": "…"}}`.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from vqtok.errors import MalformedBody
from vqtok.tokens import ItemError
from vqtok.wire.json_reading import (
    JsonObject,
    as_list,
    count_strings,
    error_from_json,
    kind_of,
    no_repeated_keys,
    only_known,
    parse_object,
)
from vqtok.wire.json_writing import dump, error_to_json


def encode_images(
    images: Sequence[bytes | ItemError], extra: Mapping[str, Any] | None = None
) -> bytes:
    """Image files as base64, failed ones as `{"error": …}`; `extra` adds keys beside them."""
    entries = [
        error_to_json(image) if isinstance(image, ItemError) else base64.b64encode(image).decode()
        for image in images
    ]
    return dump({**(extra or {}), "images": entries})


def decode_images(body: bytes, max_items: int | None = None) -> list[bytes]:
    """The image files that a request carries.

    Raises:
        MalformedBody: no JSON of the form above, no base64, no image at all.
        TooLarge: more values than a JSON body may have, or more images than `max_items`.
    """
    document = parse_object(body)
    only_known(document, ("images",), "The body")
    texts = as_list(document.get("images"), "images", max_items)
    images = [_from_base64(text, f"images[{index}]") for index, text in enumerate(texts)]
    no_repeated_keys(body, len(texts) + count_strings([document]))
    return images


def decode_image_answer(body: bytes) -> tuple[list[bytes | ItemError], JsonObject]:
    """The image files of a service's answer, failed ones as errors, and what else the answer says.

    Raises:
        MalformedBody: no such answer.
    """
    document = parse_object(body, limited=False)
    entries = as_list(document.pop("images", None), "images")
    images: list[bytes | ItemError] = [
        error_from_json(entry, f"images[{index}]")
        if isinstance(entry, dict)
        else _from_base64(entry, f"images[{index}]")
        for index, entry in enumerate(entries)
    ]
    return images, document


def _from_base64(text: Any, name: str) -> bytes:
    if not isinstance(text, str):
        raise MalformedBody(f"{name} must be a string in base64, not {kind_of(text)}.")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        hint = ' (leave out the prefix "data:…,")' if text.startswith("data:") else ""
        raise MalformedBody(f"{name} is not base64: {error}{hint}.") from error
