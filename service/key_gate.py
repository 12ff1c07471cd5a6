"""Who may use the service, looked at before anything else of a request."""

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.admission import Refusal
from service.call import call_in
from service.keys import KeyRing
from service.problems import problem_of
from vqtok.errors import KeyMissing, KeyRefused, VqtokError

FREE_PATHS = frozenset({"/", "/docs", "/openapi.json", "/health/live", "/health/ready"})
FREE_PREFIX = "/docs/"
BEARER = "bearer "
KEY_HEADER = "x-api-key"


class KeyGate:
    """Lets in who has a key, as `Authorization: Bearer KEY` or `X-Api-Key: KEY`.

    Probes and documentation are free. A refusal is answered without calling `receive`.
    """

    def __init__(
        self, app: ASGIApp, *, keys: KeyRing, on_refusal: Callable[[Refusal], None]
    ) -> None:
        self._app = app
        self._keys = keys
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_free(scope["path"]):
            try:
                call_in(scope).caller = self._caller(Headers(scope=scope))
            except VqtokError as error:
                self._on_refusal("key")
                await problem_of(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _caller(self, headers: Headers) -> str:
        authorization = headers.get("authorization", "")
        if authorization[: len(BEARER)].lower() == BEARER:
            key = authorization[len(BEARER) :].strip()
        else:
            key = headers.get(KEY_HEADER, "")
        if not key:
            raise KeyMissing(
                "This service takes requests with a key only. Send it as the header "
                "'Authorization: Bearer KEY' or 'X-Api-Key: KEY'."
            )
        name = self._keys.name_of(key)
        if name is None:
            raise KeyRefused("This key is not, or no longer, one that is let in.")
        return name


def _is_free(path: str) -> bool:
    return path in FREE_PATHS or path.startswith(FREE_PREFIX)
