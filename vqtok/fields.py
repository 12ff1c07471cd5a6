"""Reading a JSON object field by field, each of a stated type."""

from typing import Any, cast

from vqtok.errors import BundleCorrupt


class Fields:
    """Typed access to a JSON object of a file; each getter raises `BundleCorrupt` naming the field
    and the file.
    """

    def __init__(self, document: dict[str, Any], file: str, prefix: str = "") -> None:
        self._document = document
        self._file = file
        self._prefix = prefix

    def text(self, name: str) -> str:
        value = self._required(name)
        if not isinstance(value, str):
            raise self._wrong(name, "text")
        return value

    def count(self, name: str, *, least: int = 1) -> int:
        value = self._required(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self._wrong(name, f"a whole number of at least {least}")
        return value

    def counts(self, name: str, *, least: int = 1) -> tuple[int, ...]:
        values = self._list(name)
        if not all(isinstance(v, int) and not isinstance(v, bool) and v >= least for v in values):
            raise self._wrong(name, f"a list of whole numbers of at least {least}")
        return tuple(values)

    def texts(self, name: str) -> tuple[str, ...]:
        values = self._list(name)
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(name, "a list of texts")
        return tuple(values)

    def flag(self, name: str) -> bool:
        value = self._required(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        value: Any = self._document.get(name, {})
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return cast("dict[str, Any]", value)

    def nested(self, name: str) -> "Fields":
        self._required(name)
        return Fields(self.mapping(name), self._file, prefix=f"{self._prefix}{name}.")

    def _list(self, name: str) -> list[Any]:
        value = self._required(name)
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        return cast("list[Any]", value)

    def _required(self, name: str) -> Any:
        if name not in self._document:
            raise BundleCorrupt(f"{self._file} lacks the field {self._prefix}{name}.")
        return self._document[name]

    def _wrong(self, name: str, expected: str) -> BundleCorrupt:
        return BundleCorrupt(
            f"{self._file} has a field {self._prefix}{name} that is not {expected}."
        )
