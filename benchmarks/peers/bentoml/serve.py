"""The encoder behind BentoML: base64 in JSON, the form in which it puts batches together."""

import base64
import json
import os
import sys
from pathlib import Path

import bentoml

sys.path.insert(0, str(Path(__file__).parents[1]))
from encoder import open_encoder

SETTINGS = json.loads(os.environ.get("PEER_SETTINGS", "{}"))


@bentoml.service(
    workers=SETTINGS.get("workers", 1),
    threads=SETTINGS.get("threads", 1),
    traffic={"timeout": 30, "max_concurrency": SETTINGS.get("max_concurrency", 1024)},
    metrics={"enabled": SETTINGS.get("metrics", True)},
    logging={"access": {"enabled": False}},
)
class Encoder:
    """Images to tokens."""

    def __init__(self) -> None:
        self._encode = open_encoder(Path(os.environ["PEER_GRAPH"]))

    @bentoml.api(
        batchable=SETTINGS.get("batchable", True),
        max_batch_size=SETTINGS.get("max_batch_size", 8),
        max_latency_ms=SETTINGS.get("max_latency_ms", 1000),
    )
    def encode(self, images: list[str]) -> list[list[list[int]]]:
        """Tokens of each image."""
        return self._encode([base64.b64decode(each) for each in images])
