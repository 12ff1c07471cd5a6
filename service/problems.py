"""The one file that gives errors their HTTP status, and the body that tells a caller about one.

The body is a problem of RFC 9457, `application/problem+json`. `code` is stable and is the `code`
of the error's class; `detail` says what was wrong and what to do about it.
"""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from vqtok import errors
from vqtok.errors import KeyMissing, Overloaded, TooLarge, VqtokError

PROBLEM_MEDIA_TYPE = "application/problem+json"

STATUSES: Mapping[type[VqtokError], int] = {
    errors.VqtokError: 500,
    errors.BundleError: 503,
    errors.BundleCorrupt: 503,
    errors.BundleUnsupported: 503,
    errors.RuntimeUnavailable: 503,
    errors.InvalidInput: 400,
    errors.MalformedBody: 400,
    errors.BitstreamDamaged: 400,
    errors.BitstreamTruncated: 400,
    errors.BitstreamUnsupported: 415,
    errors.BrokenImage: 400,
    errors.UnsupportedImage: 415,
    errors.UnsupportedMediaType: 415,
    errors.NotAcceptable: 406,
    errors.TooLarge: 413,
    errors.InvalidTokens: 422,
    errors.InvalidParameter: 422,
    errors.CodebookMismatch: 409,
    errors.TableMismatch: 409,
    errors.RuntimeMismatch: 409,
    errors.UnknownModel: 404,
    errors.KeyMissing: 401,
    errors.KeyRefused: 403,
    errors.Overloaded: 429,
    errors.NotReady: 503,
    errors.Draining: 503,
    errors.DeadlineExceeded: 504,
    errors.BodyTimeout: 408,
    errors.ModelFailure: 503,
    errors.RemoteError: 502,
}

TITLES: Mapping[str, str] = {
    "bundle_error": "The bundle cannot be served",
    "bundle_corrupt": "The bundle is damaged",
    "bundle_unsupported": "The bundle is not supported",
    "runtime_unavailable": "The runtime is not available",
    "malformed_body": "The body cannot be read",
    "bitstream_damaged": "The bitstream is damaged",
    "bitstream_truncated": "The bitstream is cut short",
    "bitstream_unsupported": "The bitstream is of a kind that is not known",
    "broken_image": "An image cannot be decoded",
    "unsupported_image": "This kind of image is not taken",
    "unsupported_media_type": "This content type is not taken",
    "not_acceptable": "No accepted format can carry the answer",
    "too_large": "Above a limit",
    "invalid_tokens": "The tokens do not fit",
    "invalid_parameter": "A parameter does not fit",
    "codebook_mismatch": "Tokens of another codebook",
    "table_mismatch": "A bitstream of other tables",
    "runtime_mismatch": "A bitstream of another runtime",
    "unknown_model": "No such model",
    "key_missing": "A key is needed",
    "key_refused": "This key is not let in",
    "overloaded": "No room now",
    "not_ready": "Not ready yet",
    "draining": "Shutting down",
    "deadline_exceeded": "Out of time",
    "body_timeout": "The request came too slowly",
    "model_failure": "The model failed on an item",
    "not_found": "No such path",
    "method_not_allowed": "Method not allowed",
    "internal_error": "A defect in the service",
}


def status_of(error: VqtokError) -> int:
    """The HTTP status of an error: its class's, or the nearest base's that has one."""
    return next(STATUSES[base] for base in type(error).__mro__ if base in STATUSES)


def problem_body(status: int, code: str, detail: str, **members: Any) -> bytes:
    """The JSON of a problem; `members` are added to the standard ones."""
    title = TITLES.get(code) or HTTPStatus(status).phrase
    return orjson.dumps(
        {
            "type": "about:blank",
            "title": title,
            "status": status,
            "code": code,
            "detail": detail,
            **members,
        }
    )


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response:
    """A problem as a response."""
    return Response(
        problem_body(status, code, detail, **members),
        status_code=status,
        headers=dict(headers or {}),
        media_type=PROBLEM_MEDIA_TYPE,
    )


def problem_of(error: VqtokError) -> Response:
    """The response that tells a caller about `error`."""
    members: dict[str, Any] = {}
    if isinstance(error, TooLarge) and error.setting is not None:
        members = {"limit": error.limit, "setting": error.setting}
    return problem(status_of(error), error.code, error.detail, headers=_headers(error), **members)


def internal_error(request_id: str) -> Response:
    """The answer to a defect of our own; the log has the rest under the request id."""
    return problem(
        500,
        "internal_error",
        "The service failed on this request. Please report it with the request id.",
        request_id=request_id,
    )


def _headers(error: VqtokError) -> dict[str, str]:
    if isinstance(error, KeyMissing):
        return {"WWW-Authenticate": "Bearer"}
    if not isinstance(error, Overloaded):
        return {}
    milliseconds = max(1, math.ceil(error.retry_after_seconds * 1000))
    return {
        "Retry-After": str(max(1, math.ceil(milliseconds / 1000))),
        "Vqtok-Retry-After-Ms": str(milliseconds),
    }
