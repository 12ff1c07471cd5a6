"""Images: from file bytes to uint8 RGB arrays that fit a tokenizer's grid, and back."""

from vqtok.images.formats.header import ImageHeader
from vqtok.images.preprocess import PREPROCESS, Prepared, planned_size, preprocess
from vqtok.images.probe import FORMATS, ImageLimits, check_limits, probe
from vqtok.images.read import read_image
from vqtok.images.write import IMAGE_MEDIA_TYPES, write_image

__all__ = [
    "FORMATS",
    "IMAGE_MEDIA_TYPES",
    "PREPROCESS",
    "ImageHeader",
    "ImageLimits",
    "Prepared",
    "check_limits",
    "planned_size",
    "preprocess",
    "probe",
    "read_image",
    "write_image",
]
