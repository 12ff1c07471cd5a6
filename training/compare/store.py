"""The finished runs of a comparison: one JSON list, and who is working on which run."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from training.files import locked, write_whole

Record = dict[str, Any]


class Store:
    """A file with a JSON list, one record a line. Records are added and never changed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> list[Record]:
        """All records; none where there is no file. Raises ValueError when it is no JSON list."""
        if not self.path.exists():
            return []
        try:
            records = json.loads(self.path.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.path} is no JSON: {error}") from error
        if not isinstance(records, list):
            raise ValueError(f"{self.path} is no list of runs")
        return records

    def by_digest(self) -> dict[str, Record]:
        return {record["digest"]: record for record in self.records()}

    def append(self, record: Record) -> None:
        """Add a record, whole or not at all; one whose digest is there already changes nothing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.parent):
            records = self.records()
            if any(known["digest"] == record["digest"] for known in records):
                return
            lines = [json.dumps(item, allow_nan=False) for item in (*records, record)]
            write_whole(("[\n" + ",\n".join(lines) + "\n]\n").encode(), self.path)


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether this process is the only one that works in the folder of a run, until the end.

    The claim is the kernel's lock on a file there, so it ends with the process, however that ends.
    """
    descriptor = _open_claim(folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def _open_claim(folder: Path) -> int:
    """The descriptor of the claim's file; again where another process removed the folder between.

    A search run's folder is removed by the process that has finished it.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return os.open(folder / "claim", os.O_RDWR | os.O_CREAT)
