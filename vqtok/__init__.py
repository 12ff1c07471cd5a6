"""Discrete image tokenizers: bundles, an ONNX runtime, wire formats, an HTTP client and a command
line.

The package never imports torch. Its own version is read from the installed distribution.
"""

from importlib.metadata import PackageNotFoundError, version

from vqtok.errors import VqtokError
from vqtok.tokenizer import Tokenizer
from vqtok.tokens import ImageTokens, ItemError, TokenBatch

__all__ = ["ImageTokens", "ItemError", "TokenBatch", "Tokenizer", "VqtokError", "__version__"]

try:
    __version__ = version("vqtok")
except PackageNotFoundError:  # run from a source tree that nobody installed
    __version__ = "0.0.0"
