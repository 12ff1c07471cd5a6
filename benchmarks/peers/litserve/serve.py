"""The encoder behind LitServe: base64 in JSON, which is what its worker queues can carry."""

import base64
import sys
from pathlib import Path
from typing import Any

import litserve

sys.path.insert(0, str(Path(__file__).parents[1]))
from encoder import arguments, open_encoder


class Api(litserve.LitAPI):
    """One image a request; LitServe puts batches together."""

    graph: Path

    def setup(self, device: str) -> None:
        self.encode = open_encoder(self.graph)

    def decode_request(self, request: litserve.Request) -> bytes:
        return base64.b64decode(request["image"])  # type: ignore[index] - it is the JSON

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def predict(self, x: Any) -> Any:
        return self.encode(x) if isinstance(x, list) else self.encode([x])[0]

    def unbatch(self, output: Any) -> Any:
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"tokens": output}


def main() -> None:
    """Serve until the process is told to end."""
    port, graph, settings = arguments()
    api = Api(
        max_batch_size=settings.get("max_batch_size", 1),
        batch_timeout=settings.get("batch_timeout", 0.0),
    )
    api.graph = graph
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=settings.get("workers_per_device", 1),
        fast_queue=settings.get("fast_queue", False),
    )
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=1,
        log_level="error",
        access_log=False,
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
