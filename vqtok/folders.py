"""Write a folder so that a crash leaves the old one or the new one, never half of one."""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_folder(folder: Path, files: Mapping[str, bytes], *, replace: bool = False) -> None:
    """Make `folder` hold exactly `files`, in one step as seen from outside.

    The files are written and synced in a hidden folder beside it, which a crash may leave behind
    as `.<name>.….tmp`; then one rename puts it in place.

    Raises:
        FileExistsError: `folder` exists and `replace` is False.
    """
    folder = folder.absolute()
    if folder.exists() and not replace:
        raise FileExistsError(f"{folder} exists already")
    folder.parent.mkdir(parents=True, exist_ok=True)
    prepared = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        for name, data in files.items():
            _write_synced(prepared / name, data)
        prepared.chmod(0o755)
        _sync_folder(prepared)
        _put_in_place(prepared, folder)
        _sync_folder(folder.parent)
    finally:
        shutil.rmtree(prepared, ignore_errors=True)


def _put_in_place(prepared: Path, folder: Path) -> None:
    """After this `prepared` is gone, or holds what was replaced."""
    if not folder.exists():
        prepared.rename(folder)
    elif not _exchange(prepared, folder):
        # A file system without an exchange: between the two renames there is only the backup.
        backup = prepared.with_suffix(".old")
        folder.rename(backup)
        prepared.rename(folder)
        shutil.rmtree(backup, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step (Linux); False where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    arguments = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return renameat2(*arguments) == 0


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
