"""Query parameters: few, checked by hand, and an unknown one is refused, since a misspelt
`preproces=exact` that is passed over gives wrong tokens without a word.
"""

import re
from collections.abc import Collection

from starlette.requests import Request

from service.call import call_of
from vqtok.errors import InvalidParameter

_SIDE = "[1-9][0-9]{0,5}"
SIZE_PATTERN = f"{_SIDE}(x{_SIDE})?"
GRID_PATTERN = f"{_SIDE}(x{_SIDE}){{1,2}}"


class Query:
    """The query of a request that may use the parameters `names`.

    Raises:
        InvalidParameter: on construction, for an unknown or repeated parameter.
    """

    def __init__(self, request: Request, names: Collection[str]) -> None:
        self._values: dict[str, str] = {}
        sent = request.query_params.multi_items() if request.scope["query_string"] else ()
        for name, value in sent:
            if name not in names:
                known = f"there are {', '.join(names)}" if names else "it takes none"
                raise InvalidParameter(f"There is no parameter {name[:40]!r} here; {known}.")
            if name in self._values:
                raise InvalidParameter(f"The parameter {name} is given twice.")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """The value as it came."""
        return self._values.get(name)

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """One of `choices`."""
        value = self._values.get(name, default)
        if value not in choices:
            raise InvalidParameter(f"{name} is one of {', '.join(choices)}, not {value[:40]!r}.")
        return value

    def optional_choice(self, name: str, choices: Collection[str]) -> str | None:
        """One of `choices`, or None when it is not given."""
        return self.choice(name, choices, "") if name in self._values else None

    def flag(self, name: str) -> bool:
        """`true` or `false`; false when it is not given."""
        return self.choice(name, ("true", "false"), "false") == "true"

    def integer(self, name: str, low: int, high: int, default: int) -> int:
        """A whole number in `low` .. `high`."""
        value = self._values.get(name)
        if value is None:
            return default
        if not re.fullmatch(r"-?[0-9]{1,20}", value, re.ASCII) or not low <= int(value) <= high:
            raise InvalidParameter(
                f"{name} is a whole number in {low} .. {high}, not {value[:40]!r}."
            )
        return int(value)

    def size(self, name: str) -> tuple[int, int] | None:
        """(height, width) written `256x384`, or `256` for a square; None when it is not given."""
        value = self._values.get(name)
        if value is None:
            return None
        return parse_size(value, name)


def header_text(request: Request, name: bytes) -> str | None:
    """The value of a header without the blanks around it; None when it is not given."""
    value = call_of(request).header(name)
    return None if value is None else value.strip()


def parse_size(text: str, name: str) -> tuple[int, int]:
    """(height, width) of `256x384` or `256`.

    Raises:
        InvalidParameter: naming `name`.
    """
    text = text.strip()
    if not re.fullmatch(SIZE_PATTERN, text):
        raise InvalidParameter(
            f"{name} is HEIGHTxWIDTH in pixels, such as 256x384, or one number for a square, "
            f"not {text[:40]!r}."
        )
    height, _, width = text.partition("x")
    return int(height), int(width or height)
