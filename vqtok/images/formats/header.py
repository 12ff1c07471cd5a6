"""The header of an image file, and the guards that all formats share."""

from dataclasses import dataclass

from vqtok.errors import BrokenImage

MAX_BLOCKS = 65_536
"""Segments, chunks or directory entries before the first pixel. Real files have dozens."""

UPRIGHT = 1
TRANSPOSING = frozenset({5, 6, 7, 8})


@dataclass(frozen=True)
class ImageHeader:
    """What an image file states about itself.

    `format` is one of jpeg, png, webp, gif, bmp, tiff. `width` and `height` are as stored;
    `orientation` is the EXIF number 1 .. 8; `bits_per_sample` is the depth as stored, 8 where a
    format has no other.
    """

    format: str
    width: int
    height: int
    orientation: int = UPRIGHT
    bits_per_sample: int = 8

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright picture, the size that `read_image` returns."""
        if self.orientation in TRANSPOSING:
            return self.width, self.height
        return self.height, self.width

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height


def guard_blocks(count: int) -> None:
    """Refuse a file that is made of very many tiny blocks, which cost time and carry nothing.

    Raises:
        BrokenImage: `count` is above `MAX_BLOCKS`.
    """
    if count > MAX_BLOCKS:
        raise BrokenImage(f"The file has more than {MAX_BLOCKS} blocks before its pixels.")
