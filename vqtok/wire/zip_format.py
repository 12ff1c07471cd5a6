"""`application/zip`: several image files in one answer, in the order of the request."""

import io
import zipfile
from collections.abc import Sequence

MEDIA_TYPE = "application/zip"

EARLIEST = (1980, 1, 1, 0, 0, 0)
READABLE = 0o100644 << 16
UNIX = 3


def zip_images(images: Sequence[bytes], suffix: str) -> bytes:
    """Image files named `00000.<suffix>`, `00001.<suffix>`, …; stored as they are, since they are
    compressed already.

    The same images give the same bytes: no time and no machine is recorded.
    """
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for index, image in enumerate(images):
            entry = zipfile.ZipInfo(f"{index:05d}.{suffix}", EARLIEST)
            entry.create_system = UNIX
            entry.external_attr = READABLE
            archive.writestr(entry, image)
    return target.getvalue()
