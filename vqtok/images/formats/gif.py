"""GIF: the blocks up to the first frame. Of an animation only that frame exists."""

import struct

from vqtok.images.formats.header import ImageHeader, guard_blocks

SIGNATURES = (b"GIF87a", b"GIF89a")
EXTENSION, GRAPHIC_CONTROL, FRAME = 0x21, 0xF9, 0x2C


def read_header(data: bytes) -> ImageHeader:
    """Size of the screen, grown by a first frame that reaches beyond it.

    Raises:
        struct.error: no first frame.
    """
    width, height = struct.unpack_from("<HH", data, 6)
    frame, _ = _first_frame(data)
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, frame + 1)
    return ImageHeader("gif", max(width, left + frame_width), max(height, top + frame_height))


def essential(data: bytes) -> bytes:
    """The same picture without comments and application blocks; what follows the first frame is
    not looked at.
    """
    frame, control = _first_frame(data)
    return data[: _after_palette(data)] + control + data[frame:]


def _after_palette(data: bytes) -> int:
    flags = data[10]
    return 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)


def _first_frame(data: bytes) -> tuple[int, bytes]:
    """Where the first frame begins, and the graphic control block that belongs to it."""
    position, control, count = _after_palette(data), b"", 0
    while True:
        (introducer,) = struct.unpack_from("<B", data, position)
        if introducer == FRAME:
            return position, control
        start = position
        position += 1
        if introducer == EXTENSION:
            position = _after_sub_blocks(data, position + 1)
            if data[start + 1] == GRAPHIC_CONTROL:
                control = data[start:position]
        count += 1
        guard_blocks(count)


def _after_sub_blocks(data: bytes, position: int) -> int:
    count = 0
    while True:
        (length,) = struct.unpack_from("<B", data, position)
        position += 1 + length
        if length == 0:
            return position
        count += 1
        guard_blocks(count)
