"""The one thing taken from EXIF and XMP: how to turn the picture upright."""

import re
import struct

from vqtok.images.formats.header import UPRIGHT

EXIF_PREFIX = b"Exif\0\0"
ORIENTATION_TAG = 274
INTEGER_FORMATS = {1: "B", 3: "H", 4: "I"}
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def orientation(exif: bytes, xmp: bytes = b"") -> int:
    """The EXIF orientation 1 .. 8; XMP counts where EXIF has none; 1 where neither states a valid
    one.
    """
    if not (exif or xmp):
        return UPRIGHT
    found = _from_exif(exif)
    if found is None:
        match = XMP_ORIENTATION.search(xmp)
        found = int(match[1]) if match else UPRIGHT
    return found if 1 <= found <= 8 else UPRIGHT


def _from_exif(exif: bytes) -> int | None:
    """The orientation in the first directory, or None; a damaged block states nothing."""
    while exif.startswith(EXIF_PREFIX):
        exif = exif[len(EXIF_PREFIX) :]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == ORIENTATION_TAG and kind in INTEGER_FORMATS:
                return int(struct.unpack_from(order + INTEGER_FORMATS[kind], exif, entry + 8)[0])
    except struct.error:
        pass
    return None
