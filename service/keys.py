"""The callers that are let in, by the SHA-256 of their keys."""

import hashlib
import hmac
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from service.settings import InvalidSettings

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ENTRY = re.compile(rf"({_NAME.pattern}):([0-9a-fA-F]{{64}})")


class InvalidKeys(InvalidSettings):
    """Keys that cannot be used; the message says which line of what and why."""


class _Entry(NamedTuple):
    name: str
    digest: bytes


class KeyRing:
    """Names of callers by their keys. A name may have several keys, so that one can be replaced
    while both are valid.

    Keys are long random strings, and a plain SHA-256 of them is safe to keep: there is nothing
    to guess. They are read from `text` (entries separated by commas) and `path` (one a line).

    Raises:
        InvalidKeys: nothing to read, or an entry that is no `name:sha256`.
    """

    def __init__(self, text: str = "", path: Path | None = None) -> None:
        self._text = text
        self._path = path
        self._entries = self._read()

    def name_of(self, key: str) -> str | None:
        """Whose key it is; None when nobody's. Takes the same time for every key."""
        digest = _digest(key)
        found: str | None = None
        for entry in self._entries:
            if hmac.compare_digest(digest, entry.digest):
                found = entry.name
        return found

    def reload(self) -> None:
        """Read the file again. One that cannot be used changes nothing, and is logged."""
        try:
            self._entries = self._read()
        except InvalidKeys as error:
            log.error("the keys stay as they were: %s", error)
            return
        log.info("read %d keys", len(self._entries))

    def _read(self) -> Sequence[_Entry]:
        entries = _parse(self._text.split(","), "api_keys")
        if self._path is not None:
            try:
                lines = self._path.read_text().splitlines()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is no text"
                raise InvalidKeys(f"{self._path} cannot be read: {reason}.") from error
            entries = [*entries, *_parse(lines, str(self._path))]
        if not entries:
            raise InvalidKeys(f"{self._path or 'api_keys'} holds no key, and would let nobody in.")
        return entries


def entry_of(name: str, key: str) -> str:
    """The entry that lets a key in. Raises InvalidKeys for a name that no entry may have."""
    if not _NAME.fullmatch(name):
        raise InvalidKeys(f"a name has 1 to 64 letters, digits and ._-, unlike {name!r}.")
    return f"{name}:{_digest(key).hex()}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _parse(lines: Sequence[str], origin: str) -> list[_Entry]:
    entries: list[_Entry] = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _ENTRY.fullmatch(text)
        if match is None:
            # The line itself stays out of the message: it may hold a key by mistake.
            raise InvalidKeys(
                f"entry {number} of {origin} is not name:sha256, a name of letters, digits and "
                "._- and 64 hex digits; python -m service.new_key makes one."
            )
        entries.append(_Entry(match[1], bytes.fromhex(match[2])))
    return entries
