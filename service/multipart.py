"""Files in a `multipart/form-data` body that has been read already: no temporary files."""

from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from vqtok.errors import MalformedBody

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS = 65_536


def parse_multipart(content_type: str, body: bytes, field: str) -> list[bytes]:
    """The contents of every part named `field`, in order.

    Raises:
        MalformedBody: no boundary, not multipart, another field, cut short, or no part at all.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedBody("The content type multipart/form-data states no boundary.")
    parts = _Parts(field)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise MalformedBody(f"The multipart body cannot be read: {error}.") from error
    if not parts.is_complete:
        raise MalformedBody("The multipart body is cut short: its last boundary is missing.")
    if not parts.contents:
        raise MalformedBody(f"The multipart body has no part named {field!r}.")
    return parts.contents


class _Parts:
    def __init__(self, field: str) -> None:
        self.contents: list[bytes] = []
        self.is_complete = False
        self._field = field
        self._header_name = b""
        self._header_value = b""
        self._name: bytes | None = None
        self._data: list[bytes] = []

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header_name,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._check_name,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._complete,
        }

    def _begin(self) -> None:
        self._name = None
        self._data = []

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            self._name = options.get(b"name")
        self._header_name = self._header_value = b""

    def _check_name(self) -> None:
        name = (self._name or b"").decode("utf-8", "replace")
        if name != self._field:
            raise MalformedBody(
                f"The multipart body has a part named {name[:40]!r}; every part is an image named "
                f"{self._field!r}. Options go into the query."
            )
        if len(self.contents) >= MAX_PARTS:
            raise MalformedBody(f"The multipart body has more than {MAX_PARTS} parts.")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def _end(self) -> None:
        self.contents.append(b"".join(self._data))

    def _complete(self) -> None:
        self.is_complete = True
