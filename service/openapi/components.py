"""What the operations of the OpenAPI document share: parameters, headers, problems, keys."""

from service.openapi.schemas import SCHEMAS
from service.openapi.shapes import TEXT, Schema, ref
from service.params import GRID_PATTERN, SIZE_PATTERN
from service.problems import PROBLEM_MEDIA_TYPE
from vqtok.bitstream import CHOICES
from vqtok.images import PREPROCESS
from vqtok.wire.format import LAYOUTS, TOKEN_DTYPES


def _parameter(name: str, schema: Schema, description: str, place: str = "query") -> Schema:
    return {"name": name, "in": place, "schema": schema, "description": description}


def _choice(*values: str, default: str | None = None) -> Schema:
    return {"type": "string", "enum": list(values), **({"default": default} if default else {})}


_SIZE_TEXT: Schema = {"type": "string", "pattern": f"^{SIZE_PATTERN}$"}

PARAMETERS: dict[str, Schema] = {
    "model": _parameter("model", TEXT, "`name` or `name@version`; the served model if left out."),
    "preprocess": _parameter(
        "preprocess",
        _choice(*PREPROCESS, default="pad"),
        "How an image is fitted to the grid. `exact` takes only sides that are multiples of the "
        "factor; the last three resize to `image_size`.",
    ),
    "image_size": _parameter(
        "image_size", _SIZE_TEXT, "HEIGHTxWIDTH, or one number for a square; default: native size."
    ),
    "dtype": _parameter("dtype", _choice(*TOKEN_DTYPES), "The type of tokens in npy."),
    "layout": _parameter("layout", _choice(*LAYOUTS, default="grid"), "Nested tokens or flat."),
    "detail": _parameter(
        "detail",
        _choice("margin", "bits"),
        "Adds to JSON how clearly each token won, 0 .. 1, or how many bits each image takes by "
        "every coder. Under the learned prior it is null, with a reason, where there is none or "
        "the grid is not the native one.",
    ),
    "coder": _parameter(
        "coder",
        _choice(*CHOICES, default="auto"),
        "How a bitstream is coded; `auto` takes the shortest code of each chunk. All but `packed` "
        "need the bundle's tables to be read; `position` takes the native grid alone. The "
        "coder `prior` is not sent, as one machine alone could read it.",
    ),
    "counts": _parameter(
        "counts",
        _choice("true", "false", default="false"),
        "Add how often each code was used since the start, by images of the native grid.",
    ),
    "strict": _parameter(
        "strict",
        _choice("true", "false", default="false"),
        "Encode every image alone, so that its tokens cannot depend on its company.",
    ),
    "on_error": _parameter(
        "on_error",
        _choice("fail", "item", default="fail"),
        "Whether one bad item fails the request, or stands as an error among the others (JSON).",
    ),
    "quality": _parameter(
        "quality",
        {"type": "integer", "minimum": 1, "maximum": 100, "default": 90},
        "Quality of JPEG and WebP.",
    ),
    "size": _parameter(
        "size", _SIZE_TEXT, "HEIGHTxWIDTH to crop to, where the body does not say; else the grid."
    ),
    "grid": _parameter(
        "grid",
        {"type": "string", "pattern": f"^{GRID_PATTERN}$"},
        "ROWSxCOLUMNS[xDEPTH] of tokens that are sent flat as npy.",
    ),
    "require_ids": _parameter(
        "require_ids",
        _choice("true", "false", default="false"),
        "Refuse tokens that do not say their codebook_id.",
    ),
}

HEADER_PARAMETERS: dict[str, Schema] = {
    "Vqtok-Timeout-Ms": _parameter(
        "Vqtok-Timeout-Ms",
        {"type": "integer", "minimum": 1},
        "Lowers the time after which the answer is 504.",
        "header",
    ),
    "X-Request-Id": _parameter(
        "X-Request-Id", TEXT, "Comes back with the answer and stands in the log.", "header"
    ),
    "Vqtok-Codebook-Id": _parameter(
        "Vqtok-Codebook-Id", TEXT, "Codebook of tokens sent as npy; must match.", "header"
    ),
    "Vqtok-Image-Size": _parameter(
        "Vqtok-Image-Size", _SIZE_TEXT, "The same as the parameter `size`.", "header"
    ),
}


def _header(description: str) -> Schema:
    return {"description": description, "schema": TEXT}


HEADERS: dict[str, Schema] = {
    "X-Request-Id": _header("The request's id."),
    "Vqtok-Model": _header("`name@version` of the model."),
    "Vqtok-Codebook-Id": _header("Which tokens can be decoded here; 12 hex digits."),
    "Vqtok-Tokenizer-Id": _header("Which tokens are comparable; 12 hex digits."),
    "Vqtok-Preprocess": _header("What was done to the images, or `none`."),
    "Server-Timing": _header(
        "Milliseconds in each stage, where those of a large request overlap, and in total."
    ),
    "Vqtok-Image-Size": _header("HEIGHTxWIDTH of the pictures that these tokens decode to."),
    "Cache-Status": _header(
        "Where tokens are cached: `vqtok; hit` when all were there, else how many (RFC 9211)."
    ),
    "Vqtok-Seed": _header("The seed that was used."),
    "Vqtok-Bits": _header("Code length of each sample in bits, separated by commas."),
    "Vqtok-Prior": _header("What the samples were drawn from."),
    "Vqtok-Mse": _header("Of each picture, on pixels scaled to 0 .. 1, separated by commas."),
    "Vqtok-Psnr": _header("Of each picture in dB; null where the images are equal."),
    "Vqtok-Ssim": _header("Of each picture; null where a side is below 7 pixels."),
    "Retry-After": _header("Whole seconds, at least 1."),
    "Vqtok-Retry-After-Ms": _header("The same in milliseconds."),
}

PROBLEMS: dict[int, str] = {
    400: "The body or an image cannot be read",
    401: "The service was started with keys, and the request has none",
    403: "The key is not one that is let in",
    404: "No such model",
    406: "No accepted format can carry the answer; the detail names those that can",
    408: "The body came too slowly",
    409: "Tokens of another codebook, or coded by other tables; the detail names both",
    413: "Above a limit, or never admissible; `limit` and `setting` say which",
    415: "A content type or kind of image that is not taken",
    422: "A parameter or tokens that do not fit",
    429: "No room now",
    503: "Not ready, shutting down, or the model failed on an item",
    504: "No answer in the allowed time",
}


def problem_response(status: int) -> Schema:
    """A problem with this status."""
    response: Schema = {
        "description": PROBLEMS[status],
        "content": {PROBLEM_MEDIA_TYPE: {"schema": ref("schemas", "Problem")}},
    }
    if status == 429:
        names = ("Retry-After", "Vqtok-Retry-After-Ms")
        response["headers"] = {name: ref("headers", name) for name in names}
    if status == 401:
        response["headers"] = {"WWW-Authenticate": _header("`Bearer`.")}
    return response


COMPONENTS: Schema = {
    "schemas": SCHEMAS,
    "parameters": {**PARAMETERS, **HEADER_PARAMETERS},
    "headers": HEADERS,
    "securitySchemes": {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    },
    "responses": {f"Problem{status}": problem_response(status) for status in PROBLEMS},
}
