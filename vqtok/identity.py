"""Ids that name meaning: two checkpoints with the same id give, or understand, the same tokens.

`codebook_id` says which tokens can be decoded here, `tokenizer_id` says which tokens are equal.
Both hash trained numbers, never files, so another exporter, opset or file layout keeps them.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

SHORT_ID_LENGTH = 12


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


class ContentId(str):
    """A full sha256 in hex; `short` is the form shown to people and sent in headers."""

    @property
    def short(self) -> str:
        return self[:SHORT_ID_LENGTH]

    def matches(self, other: str) -> bool:
        """True when `other` is this id or an abbreviation of it of at least 12 digits."""
        return len(other) >= SHORT_ID_LENGTH and self.startswith(other.lower())


def codebook_id(
    tensors: Mapping[str, NDArray[Any]],
    code_table: NDArray[np.float32],
    depth: int,
    token_order: str = "raster",
) -> ContentId:
    """The id of a decoder: its float32 weights by name, its code table, depth and token order.

    `code_table` is (K, D) or (depth, K, D), the values that the decoder really looks up.
    """
    digest = hashlib.sha256()
    _add_text(digest, "vqtok.codebook/1")
    _add_tensors(digest, tensors)
    _add_tensors(digest, {"code_table": code_table})
    _add_text(digest, _canonical({"depth": depth, "token_order": token_order}))
    return ContentId(digest.hexdigest())


def tokenizer_id(
    tensors: Mapping[str, NDArray[Any]], rule: Mapping[str, Any], precision: str
) -> ContentId:
    """The id of the map from uint8 RGB to tokens: encoder weights, quantizer rule, precision.

    `tensors` holds what the tokens depend on, the quantizer's own weights included; `rule` is the
    quantizer's name and constants, plain JSON values.
    """
    digest = hashlib.sha256()
    _add_text(digest, "vqtok.tokenizer/1")
    _add_tensors(digest, tensors)
    _add_text(digest, _canonical({"rule": dict(rule), "precision": precision}))
    return ContentId(digest.hexdigest())


def _add_tensors(digest: _Digest, tensors: Mapping[str, NDArray[Any]]) -> None:
    _add_text(digest, str(len(tensors)))
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        little_endian = array.dtype.newbyteorder("<")
        _add_text(digest, name)
        _add_text(digest, f"{little_endian.str} {list(array.shape)}")
        digest.update(np.ascontiguousarray(array, dtype=little_endian).tobytes())


def _add_text(digest: _Digest, text: str) -> None:
    """Length first, so that no two sequences of texts feed the hash the same bytes."""
    data = text.encode()
    digest.update(len(data).to_bytes(8, "little"))
    digest.update(data)


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
