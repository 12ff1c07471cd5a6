"""The OpenAPI document, written by hand: bodies bypass pydantic here, so nothing can derive it.
The tests hold it against the routes, and replay its examples.
"""

from typing import Any

from service.openapi.components import COMPONENTS
from service.openapi.operations import PATHS

INTRODUCTION = """\
Images to tokens, tokens to images, samples, and statistics of the codebook.

Tokens are indices into a codebook, base 0, in raster order. `Content-Type` says what is sent,
`Accept` what is wanted. Every answer names the model and its ids in headers; tokens with an equal
`tokenizer_id` are comparable, and a model decodes tokens with its own `codebook_id`.

Errors are problems of RFC 9457 with a stable `code`. A 429 says in `Retry-After` and
`Vqtok-Retry-After-Ms` when to try again.
"""


def openapi_document(version: str) -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "vqtok", "version": version, "description": INTRODUCTION},
        "paths": PATHS,
        "components": COMPONENTS,
    }
