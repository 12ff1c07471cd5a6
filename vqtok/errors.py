"""Everything that vqtok raises on purpose. One tree, so that a caller can be as broad or as
narrow as it likes.

```
VqtokError
├── BundleError                 a bundle cannot be used
│   ├── BundleCorrupt           a file is missing or is not what the manifest says
│   └── BundleUnsupported       the bundle asks for something this reader does not know
├── RuntimeUnavailable          no onnxruntime, or the device cannot be opened
├── InvalidInput                the caller can mend it
│   ├── MalformedBody           the body is not what its content type says
│   │   └── BitstreamDamaged    bytes of a token bitstream have changed; `part` says which
│   │       └── BitstreamTruncated  a token bitstream ends before its end record
│   ├── BitstreamUnsupported    a token bitstream of a version or coder that is not known
│   ├── BrokenImage             the bytes of an image do not decode
│   ├── UnsupportedImage        an image of a kind that is not taken
│   ├── UnsupportedMediaType    a content type that is not taken
│   ├── NotAcceptable           no format that the caller accepts can carry the answer
│   ├── TooLarge                above a limit that is in force
│   ├── InvalidTokens           tokens out of range, of a wrong type or of a wrong shape
│   ├── InvalidParameter        an option with a value that cannot be used
│   ├── CodebookMismatch        tokens of another codebook
│   ├── TableMismatch           a bitstream that was coded with other tables
│   ├── RuntimeMismatch         a bitstream that only the runtime that wrote it can read
│   └── UnknownModel            no model of that name
├── KeyMissing                  the service asks for a key
├── KeyRefused                  the service does not know the key
├── Overloaded                  try again later
├── NotReady                    the model is not loaded yet
├── Draining                    the service is shutting down
├── DeadlineExceeded            the caller's time ran out
├── BodyTimeout                 the body arrived too slowly
├── ModelFailure                the model failed on this item
└── RemoteError                 an answer over HTTP that fits none of the above
```

`code` is stable and goes over the wire; `detail` says what was wrong and what to do about it. No
class knows an HTTP status: the service has one file for that.
"""

from collections.abc import Iterator
from typing import ClassVar


class VqtokError(Exception):
    """Base of everything that vqtok raises on purpose; `detail` is a sentence for people."""

    code: ClassVar[str] = "vqtok_error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class BundleError(VqtokError):
    """A bundle cannot be used; `detail` names the file and the reason."""

    code = "bundle_error"


class BundleCorrupt(BundleError):
    """A file of the bundle is missing, or its digest, shape or behaviour is not what the manifest
    says.
    """

    code = "bundle_corrupt"


class BundleUnsupported(BundleError):
    """The bundle has a newer schema, or requires something that this reader does not know."""

    code = "bundle_unsupported"


class RuntimeUnavailable(VqtokError):
    """No runtime is installed or the device cannot be opened; `detail` says what to install."""

    code = "runtime_unavailable"


class InvalidInput(VqtokError):
    """The caller sent something that cannot be used, and can mend it."""

    code = "invalid_input"


class MalformedBody(InvalidInput):
    """The bytes of a body are not what its content type says."""

    code = "malformed_body"


class BitstreamDamaged(MalformedBody):
    """Bytes of a token bitstream are not those that were written.

    `part` is "header", "chunk header", "payload", "tokens" (an unharmed payload that comes out as
    other tokens than went in) or "end record".
    """

    code = "bitstream_damaged"

    def __init__(self, detail: str, *, part: str = "") -> None:
        super().__init__(detail)
        self.part = part


class BitstreamTruncated(BitstreamDamaged):
    """A token bitstream ends before its end record; the whole chunks before that can be read."""

    code = "bitstream_truncated"


class BitstreamUnsupported(InvalidInput):
    """A token bitstream of another major version, or of a coder that this reader has not."""

    code = "bitstream_unsupported"


class BrokenImage(InvalidInput):
    """The bytes begin like an image of a known format and do not decode."""

    code = "broken_image"


class UnsupportedImage(InvalidInput):
    """The bytes are no image, or an image of a format or sample type that is not taken."""

    code = "unsupported_image"


class UnsupportedMediaType(InvalidInput):
    """The content type of a body is not taken."""

    code = "unsupported_media_type"


class NotAcceptable(InvalidInput):
    """No format that the caller accepts can carry the answer; `detail` names those that can."""

    code = "not_acceptable"


class TooLarge(InvalidInput):
    """Above a limit; `limit` is its value and `setting` the name under which an operator can
    change it.
    """

    code = "too_large"

    def __init__(
        self, detail: str, *, limit: float | None = None, setting: str | None = None
    ) -> None:
        super().__init__(detail)
        self.limit = limit
        self.setting = setting


class InvalidTokens(InvalidInput):
    """Tokens that are out of range, of a wrong type or of a wrong shape."""

    code = "invalid_tokens"


class InvalidParameter(InvalidInput):
    """An option with a value that cannot be used."""

    code = "invalid_parameter"


class CodebookMismatch(InvalidInput):
    """Tokens of another codebook; `detail` names both ids."""

    code = "codebook_mismatch"


class TableMismatch(InvalidInput):
    """A token bitstream that was coded with other tables than there are; `detail` names both."""

    code = "table_mismatch"


class RuntimeMismatch(InvalidInput):
    """A token bitstream that is bound to the runtime and processor which wrote it, and these are
    others; `detail` names both.
    """

    code = "runtime_mismatch"


class UnknownModel(InvalidInput):
    """No model of that name or version is served."""

    code = "unknown_model"


class KeyMissing(VqtokError):
    """The service takes requests with a key only, and there was none."""

    code = "key_missing"


class KeyRefused(VqtokError):
    """The key is not, or no longer, one that the service lets in."""

    code = "key_refused"


class Overloaded(VqtokError):
    """There is no room now; trying again after `retry_after_seconds` may succeed."""

    code = "overloaded"

    def __init__(self, detail: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class NotReady(VqtokError):
    """The model is not loaded and proven yet."""

    code = "not_ready"


class Draining(VqtokError):
    """The service finishes what it has admitted and takes nothing more."""

    code = "draining"


class DeadlineExceeded(VqtokError):
    """The time that the caller or the service allowed ran out."""

    code = "deadline_exceeded"


class BodyTimeout(VqtokError):
    """The body arrived too slowly."""

    code = "body_timeout"


class ModelFailure(VqtokError):
    """The model failed on this item; its batch mates are not concerned."""

    code = "model_failure"


class RemoteError(VqtokError):
    """The service answered something that fits no other class; `status` and the start of the
    `body` are kept.
    """

    code = "remote_error"

    def __init__(self, detail: str, *, status: int | None = None, body: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.body = body


def error_classes() -> Iterator[type[VqtokError]]:
    """Every class of the tree, parents before children."""
    waiting: list[type[VqtokError]] = [VqtokError]
    while waiting:
        current = waiting.pop(0)
        yield current
        waiting.extend(current.__subclasses__())


def error_from_problem(code: str, detail: str) -> VqtokError:
    """The error that a `code` from the wire stands for; a code of an unknown kind gives a
    `RemoteError` that names it.
    """
    for known in error_classes():
        if known.code == code:
            return known(detail)
    return RemoteError(f"{code}: {detail}")
