"""JSON to be sent: the bytes of a document, and what stands for an item that failed."""

from typing import Any

import orjson

from vqtok.tokens import ItemError
from vqtok.wire.json_reading import JsonObject


def dump(document: Any) -> bytes:
    """JSON bytes of plain objects and C-ordered numpy arrays; numbers that JSON has not become
    null.
    """
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def error_to_json(error: ItemError) -> JsonObject:
    """What stands in the place of an item that failed."""
    return {"error": {"code": error.code, "detail": error.detail}}
