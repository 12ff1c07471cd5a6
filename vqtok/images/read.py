"""From the bytes of an image file to pixels.

`probe` looks at the header first and the limit on pixels is held against that, before a decoder
sees the file. Decoders are given only the parts of a file that make pixels, and each is called by
its own class: nothing of what Pillow guesses, warns about or limits globally takes part, so that
reading is safe from any number of threads.
"""

import io
from types import MappingProxyType

import numpy as np
import simplejpeg  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from vqtok.errors import BrokenImage, InvalidInput
from vqtok.images.formats.header import UPRIGHT, ImageHeader
from vqtok.images.pixels import BAND_PIXELS, write_rgb
from vqtok.images.plain_png import decode_plain_png
from vqtok.images.probe import FORMATS, ImageLimits, check_limits, probe

DECODERS: MappingProxyType[str, type[ImageFile.ImageFile]] = MappingProxyType(
    {
        "jpeg": JpegImagePlugin.JpegImageFile,
        "png": PngImagePlugin.PngImageFile,
        "webp": WebPImagePlugin.WebPImageFile,
        "gif": GifImagePlugin.GifImageFile,
        "bmp": BmpImagePlugin.BmpImageFile,
        "tiff": TiffImagePlugin.TiffImageFile,
    }
)

DIRECT_JPEG = frozenset({"YCbCr", "Gray", "RGB"})


def read_image(
    data: bytes, limits: ImageLimits | None = None, header: ImageHeader | None = None
) -> NDArray[np.uint8]:
    """Pixels of the first picture of a JPEG, PNG, WebP, GIF, BMP or TIFF file: uint8, upright,
    (H, W, 3), C order.

    The EXIF orientation is applied; everything else becomes RGB by the rules in
    `vqtok.images.pixels`. The same bytes always give the same pixels. JPEG is decoded without the
    shortcuts that change pixels. `header` is what `probe` says of these bytes, if it is known.

    Raises:
        UnsupportedImage: another format, or samples whose white is not stated.
        TooLarge: more pixels than `limits.max_pixels`, by the header.
        BrokenImage: cut short, damaged, or a kind of its format that the decoder does not know.
    """
    header = header or probe(data)
    check_limits(header, limits or ImageLimits())
    if header.format == "jpeg":
        pixels = decode_jpeg(data, header)
        if pixels is not None:
            return pixels
    try:
        if header.format == "png":
            pixels = decode_plain_png(data, header)
            if pixels is not None:
                return pixels
        return _decode(data, header)
    except InvalidInput:
        raise
    # The decoders meet bytes made to harm them, and raise nearly everything: OSError, SyntaxError,
    # struct.error, TypeError, MemoryError, AssertionError. Whatever it is, the file is at fault.
    except Exception as error:
        raise _not_decoded(header, str(error) or type(error).__name__) from error


def decode_jpeg(data: bytes, header: ImageHeader) -> NDArray[np.uint8] | None:
    """Pixels by libjpeg-turbo without the interpreter's lock, or None for a file that Pillow has
    to judge.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if (height, width) != (header.height, header.width) or colours not in DIRECT_JPEG:
            return None
        stored = simplejpeg.decode_jpeg(data, colorspace="RGB", fastdct=False, fastupsample=False)
    except (ValueError, RuntimeError):
        return None
    if header.orientation == UPRIGHT:
        return stored
    pixels, as_stored = _upright(header)
    as_stored[...] = stored
    return pixels


def _decode(data: bytes, header: ImageHeader) -> NDArray[np.uint8]:
    essential: bytes = FORMATS[header.format].essential(data)
    with DECODERS[header.format](io.BytesIO(essential)) as picture:
        if picture.size != (header.width, header.height):
            raise _not_decoded(header, "its header and its picture differ in size")
        picture.load()
        if _is_plain(picture, header):
            return np.frombuffer(picture.tobytes(), np.uint8).reshape(*header.size, 3)
        pixels, as_stored = _upright(header)
        write_rgb(picture, header, as_stored)
    return pixels


def _is_plain(picture: Image.Image, header: ImageHeader) -> bool:
    """Whether its samples are the pixels, and so few that a copy of them does no harm."""
    return (
        picture.mode == "RGB"
        and header.orientation == UPRIGHT
        and header.pixels <= BAND_PIXELS
        and "transparency" not in picture.info
    )


def _upright(header: ImageHeader) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An empty upright picture, and a view of it through which it can be written in the order as
    stored.
    """
    pixels = np.empty((*header.size, 3), np.uint8)
    turned = header.orientation
    rows = slice(None, None, -1 if turned in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if turned in (2, 3, 6, 7) else 1)
    flipped = pixels[rows, columns]
    return pixels, flipped.swapaxes(0, 1) if turned in (5, 6, 7, 8) else flipped


def _not_decoded(header: ImageHeader, reason: str) -> BrokenImage:
    name = header.format.upper()
    return BrokenImage(f"The {name} file does not decode: {reason[:200].rstrip('.')}.")
