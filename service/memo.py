"""What was made of the heads of recent requests: most callers send the same one again and again."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")

MOST = 256
LONGEST = 1024


class Memo:
    """Results by what they were made from, in bounded memory. Belongs to one event loop."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def get(
        self, owner: object, texts: tuple[bytes | None, ...], make: Callable[[], ResultT]
    ) -> ResultT:
        """What `make` made when it was last called for these texts and this owner, or makes now.
        What it raises is not remembered, nor what came from very long texts.
        """
        key = (owner, *texts)
        found: ResultT | None = self._known.get(key)
        if found is None:
            found = make()
            if sum(len(text) for text in texts if text is not None) <= LONGEST:
                if len(self._known) >= MOST:
                    self._known.clear()
                self._known[key] = found
        return found
