"""Arrays that were made once, kept in a folder by what they were made from."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Kept:
    """A folder of arrays, each file named by a digest of all that decides what it holds: other
    settings make other files, and none is mistaken for another.
    """

    folder: Path

    def get(self, name: str, origin: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """The arrays called `name` of that origin (plain JSON values), read, or made and kept."""
        plain = re.sub(r"\W+", "-", name)
        path = self.folder / f"{plain}-{digest(origin)}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as file:
                return {each: file[each] for each in file.files}
        arrays = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, allow_pickle=False, **arrays)
        partial.replace(path)
        return arrays


def digest(origin: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of plain JSON values."""
    text = json.dumps(origin, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
