"""Discrete image tokenizers: bundles, an ONNX runtime, wire formats, an HTTP client and a command
line.

The package never imports torch.
"""

from vqtok.errors import VqtokError
from vqtok.tokenizer import Tokenizer
from vqtok.tokens import ImageTokens, ItemError, TokenBatch

__all__ = ["ImageTokens", "ItemError", "TokenBatch", "Tokenizer", "VqtokError", "__version__"]

__version__ = "0.1.0"
