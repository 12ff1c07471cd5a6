"""What pages of other origins may do, for browsers that ask."""

from collections.abc import Sequence
from typing import Any

from service.openapi.components import HEADER_PARAMETERS, HEADERS


def cors(origins: Sequence[str]) -> dict[str, Any]:
    """The options of Starlette's CORSMiddleware for these origins; no cookies are involved."""
    return {
        "allow_origins": list(origins),
        "allow_methods": ["GET", "POST"],
        "allow_headers": ["Authorization", "X-Api-Key", "Content-Type", *HEADER_PARAMETERS],
        "expose_headers": list(HEADERS),
    }
