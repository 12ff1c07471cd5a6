"""`application/json`: tokens that anything can read.

Tokens, both ways:

```
{"model": "…", "codebook_id": "…", "tokenizer_id": "…", "preprocess": "pad",
 "items": [{"grid": [h, w], "size": [H, W], "tokens": [[…], …]},
           {"error": {"code": "…", "detail": "…"}}]}
```

Sent to a service, all but `items` and its `tokens` may be left out; `grid` is needed where
`tokens` are flat. `grid` has a third number, the depth, where it is above 1. Whatever a service
answers may be sent back as it is: the `prior`, `seed`, `temperature` and `windowed` of samples,
the `bits` of each and the `rates` of items are read over, and an item that failed stays one.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqtok.bitstream import bits_per_image
from vqtok.errors import InvalidTokens, MalformedBody
from vqtok.tokens import ImageTokens, ItemError, TokenBatch
from vqtok.wire.format import DecodeOptions, EncodeOptions, WireFormat, as_dtype
from vqtok.wire.json_reading import (
    JsonObject,
    as_list,
    as_object,
    as_text,
    count_strings,
    error_from_json,
    integers,
    no_repeated_keys,
    only_known,
    parse_object,
    require_number,
)
from vqtok.wire.json_writing import dump, error_to_json

MEDIA_TYPE = "application/json"
LABELS = ("model", "codebook_id", "tokenizer_id", "preprocess")
SAMPLE_KEYS = ("prior", "seed", "temperature", "windowed")
ITEM_KEYS = ("grid", "size", "tokens", "margins", "bits", "drawn_bits", "rates")
RATE_KEYS = ("bits", "reason")
LONGEST_SIDE = 2**31 - 1


def encode_tokens(
    batch: TokenBatch,
    options: EncodeOptions | None = None,
    *,
    extra: Mapping[str, Any] | None = None,
    item_extra: Sequence[Mapping[str, Any]] | None = None,
) -> bytes:
    """A batch as JSON. `extra` adds keys to the envelope and `item_extra` to each item; numpy
    arrays may be among them.
    """
    options = options or EncodeOptions()
    items = [_item_to_json(item, options) for item in batch.items]
    if options.rates:
        _add_rates(items, batch, options)
    for item, added in zip(items, item_extra or (), strict=item_extra is not None):
        item.update(added)
    envelope: JsonObject = {label: getattr(batch, label) for label in LABELS}
    return dump({**envelope, **(extra or {}), "items": items})


def decode_tokens(body: bytes, options: DecodeOptions | None = None) -> TokenBatch:
    """The batch that a body carries, tokens as int64.

    Raises:
        MalformedBody: no JSON of the form above; a key that is unknown or repeated.
        InvalidTokens: tokens that are no integers, ragged, or not of the grid they state.
        TooLarge: more values than a JSON body may have, or more items than `options` take.
    """
    options = options or DecodeOptions()
    document = parse_object(body, limited=not options.answer)
    if not options.answer:
        _check_envelope(document)
    if "items" not in document:
        raise MalformedBody('The body has no key "items".')
    entries = [
        as_object(entry, f"items[{index}]")
        for index, entry in enumerate(as_list(document["items"], "items", options.max_items))
    ]
    items = tuple(_item_from_json(entry, f"items[{i}]", options) for i, entry in enumerate(entries))
    labels = {label: as_text(document, label) for label in LABELS}
    if not options.answer:
        within = [each for index, entry in enumerate(entries) for each in _within(entry, index)]
        no_repeated_keys(body, count_strings([document, *entries, *within]))
    return TokenBatch(**labels, items=items)


def _item_to_json(item: ImageTokens | ItemError, options: EncodeOptions) -> JsonObject:
    if isinstance(item, ItemError):
        return error_to_json(item)
    flat = options.layout == "flat"
    tokens = as_dtype(item.tokens, options.dtype)
    entry: JsonObject = {"grid": item.grid, "size": item.size}
    entry["tokens"] = tokens.ravel() if flat else tokens
    if options.detail and item.margin is not None:
        margins = np.ascontiguousarray(item.margin, dtype=np.float32)
        entry["margins"] = margins.ravel() if flat else margins
    return entry


def _add_rates(items: list[JsonObject], batch: TokenBatch, options: EncodeOptions) -> None:
    """The bits of each image by every coder; null, and a reason, where one does not apply."""
    images = {i: item for i, item in enumerate(batch.items) if isinstance(item, ImageTokens)}
    if options.coding is None or not images:
        return
    found = bits_per_image(list(images.values()), options.coding, options.prior_bits)
    for index, rates in zip(images, found, strict=True):
        items[index]["rates"] = {
            name: {"bits": rate.bits} | ({"reason": rate.reason} if rate.reason else {})
            for name, rate in rates.items()
        }


def _check_envelope(document: JsonObject) -> None:
    """Refuse a request with a key that no answer has, or with another type behind one that is
    read over.
    """
    only_known(document, (*LABELS, *SAMPLE_KEYS, "items"), "The body")
    as_text(document, "prior")
    for key in ("seed", "temperature"):
        require_number(document.get(key), key)
    if not isinstance(document.get("windowed"), bool | None):
        raise MalformedBody("windowed must be true or false.")


def _within(entry: JsonObject, index: int) -> list[JsonObject]:
    """The objects in an item of a request: its error, or its rates, which are read over."""
    if "error" in entry:
        return [entry["error"]]
    if entry.get("rates") is None:
        return []
    rates = as_object(entry["rates"], f"items[{index}].rates")
    each = [as_object(rate, f"items[{index}].rates.{name:.20}") for name, rate in rates.items()]
    for name, rate in zip(rates, each, strict=True):
        only_known(rate, RATE_KEYS, f"items[{index}].rates.{name:.20}")
        require_number(rate.get("bits"), f"items[{index}].rates.{name:.20}.bits")
        as_text(rate, "reason")
    return [rates, *each]


def _item_from_json(
    entry: JsonObject, name: str, options: DecodeOptions
) -> ImageTokens | ItemError:
    if "error" in entry:
        return error_from_json(entry, name, strict=not options.answer)
    if not options.answer:
        only_known(entry, ITEM_KEYS, name)
        for key in ("bits", "drawn_bits"):
            require_number(entry.get(key), f"{name}.{key}")
    if "tokens" not in entry:
        raise MalformedBody(f'{name} has no key "tokens".')
    tokens = integers(entry["tokens"], f"{name}.tokens")
    if entry.get("grid") is not None:
        tokens = _on_grid(tokens, _sides(entry["grid"], (2, 3), f"{name}.grid"), name)
    elif tokens.ndim == 1:
        raise InvalidTokens(f'{name}.tokens are flat: say their "grid".')
    size = entry.get("size")
    return ImageTokens(
        tokens,
        options.size if size is None else _height_width(size, f"{name}.size"),
        _margins(entry["margins"], tokens.shape, name) if entry.get("margins") else None,
    )


def _on_grid(tokens: NDArray[np.int64], grid: tuple[int, ...], name: str) -> NDArray[np.int64]:
    if tokens.ndim == 1 and tokens.size == math.prod(grid):
        return tokens.reshape(grid)
    if tokens.shape != grid:
        raise InvalidTokens(
            f"{name}.tokens have the shape {list(tokens.shape)}, its grid {list(grid)}."
        )
    return tokens


def _sides(value: Any, lengths: tuple[int, ...], name: str) -> tuple[int, ...]:
    sides = integers(value, name)
    if (
        sides.ndim != 1
        or len(sides) not in lengths
        or not (1 <= sides.min() <= sides.max() <= LONGEST_SIDE)
    ):
        raise InvalidTokens(f"{name} must be {' or '.join(map(str, lengths))} positive integers.")
    return tuple(int(side) for side in sides)


def _height_width(value: Any, name: str) -> tuple[int, int]:
    height, width = _sides(value, (2,), name)
    return height, width


def _margins(value: Any, grid: tuple[int, ...], name: str) -> NDArray[np.float32]:
    """Margins, one for each position of the grid; null, which stands for not a number, becomes
    that.
    """
    try:
        with np.errstate(over="ignore"):
            return np.array(value, dtype=np.float32).reshape(grid[:2])
    except (ValueError, TypeError) as error:
        raise MalformedBody(
            f"{name}.margins must be numbers, one for each position of the grid."
        ) from error


JSON = WireFormat(
    MEDIA_TYPE,
    encode_tokens,
    decode_tokens,
    carries_errors=True,
    carries_mixed_sizes=True,
    carries_ids=True,
)
