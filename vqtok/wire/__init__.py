"""Tokens and images as bytes: pure functions between arrays and the bodies of requests and answers.

A format of tokens is one file here and one line in `WIRE_FORMATS`; the contract tests then run on
it.
"""

from vqtok.wire.bitstream_format import BITSTREAM
from vqtok.wire.format import DecodeOptions, EncodeOptions, WireFormat, format_size, parse_size
from vqtok.wire.json_format import JSON
from vqtok.wire.npy_format import NPY, NpyHeader, npy_header
from vqtok.wire.zip_format import zip_images

__all__ = [
    "WIRE_FORMATS",
    "DecodeOptions",
    "EncodeOptions",
    "NpyHeader",
    "WireFormat",
    "format_size",
    "npy_header",
    "parse_size",
    "zip_images",
]

WIRE_FORMATS: dict[str, WireFormat] = {each.media_type: each for each in (JSON, NPY, BITSTREAM)}
"""Every format of tokens by its media type; the first is the default."""
