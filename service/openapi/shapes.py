"""The pieces that schemas of the OpenAPI document are made of."""

from typing import Any

Schema = dict[str, Any]


def ref(kind: str, name: str) -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def array(items: Schema, **rest: Any) -> Schema:
    """An array's schema."""
    return {"type": "array", "items": items, **rest}


def record(properties: dict[str, Schema], *, optional: tuple[str, ...] = (), **rest: Any) -> Schema:
    """An object's schema; every property that is not optional is required."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, **rest}


INTEGER: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
BASE64: Schema = {"type": "string", "format": "byte", "contentEncoding": "base64"}
"""JSON Schema knows the one name, many generators of clients only the other."""
