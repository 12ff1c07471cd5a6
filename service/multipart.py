"""Files in a `multipart/form-data` body, complete or still arriving: no temporary files."""

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
    parts = PartsReader(content_type, field)
    contents = parts.feed(body)
    parts.end()
    return contents


class PartsReader:
    """Gives the contents of parts named `field` as soon as they are complete. `num_begun` counts
    those whose name has arrived.

    Raises:
        MalformedBody: on construction, for a content type without a boundary.
    """

    def __init__(self, content_type: str, field: str) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise MalformedBody("The content type multipart/form-data states no boundary.")
        self.num_begun = 0
        self._field = field
        self._parser = MultipartParser(boundary, self._callbacks())
        self._has_ended = False
        self._complete: list[bytes] = []
        self._header_name = b""
        self._header_value = b""
        self._name: bytes | None = None
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The parts that are complete with these bytes, in order.

        Raises:
            MalformedBody: not multipart, another field, or too many parts.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise MalformedBody(f"The multipart body cannot be read: {error}.") from error
        complete, self._complete = self._complete, []
        return complete

    def end(self) -> None:
        """Note that nothing more comes.

        Raises:
            MalformedBody: cut short, or no part at all.
        """
        if not self._has_ended:
            raise MalformedBody("The multipart body is cut short: its last boundary is missing.")
        if not self.num_begun:
            raise MalformedBody(f"The multipart body has no part named {self._field!r}.")

    def _callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header_name,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._check_name,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._note_end,
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
        if self.num_begun >= MAX_PARTS:
            raise MalformedBody(f"The multipart body has more than {MAX_PARTS} parts.")
        self.num_begun += 1

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def _end(self) -> None:
        self._complete.append(b"".join(self._data))
        self._data = []

    def _note_end(self) -> None:
        self._has_ended = True
