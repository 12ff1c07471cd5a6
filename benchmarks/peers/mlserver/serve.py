"""Writes MLServer's two files of settings for the chosen ones, and starts it on them."""

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from encoder import arguments


def main() -> None:
    """Become `mlserver start`."""
    port, graph, settings = arguments()
    folder = Path(tempfile.mkdtemp())
    server = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_port": port + 2,
        "debug": False,
        "parallel_workers": settings.get("parallel_workers", 0),
    }
    model = {
        "name": "encoder",
        "implementation": "runtime.Encoder",
        "max_batch_size": settings.get("max_batch_size", 0),
        "max_batch_time": settings.get("max_batch_time", 0),
        "parameters": {"uri": str(graph.resolve())},
    }
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.resolve())
    # It writes folders of its own where it is started.
    os.chdir(folder)
    program = str(Path(sys.executable).with_name("mlserver"))
    os.execv(program, [program, "start", str(folder)])


if __name__ == "__main__":
    main()
