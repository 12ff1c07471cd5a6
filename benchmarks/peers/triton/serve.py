"""The encoder behind Triton, started by pytriton: the bytes of the file as a binary tensor."""

import sys
from pathlib import Path

import numpy as np
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
from encoder import arguments, open_encoder


def main() -> None:
    """Serve until the process is told to end."""
    port, graph, settings = arguments()

    def instance():
        encode = open_encoder(graph)

        def infer(requests: list) -> list:
            files = [bytes(row) for request in requests for row in request["image"][:, 0]]
            tokens = np.asarray(encode(files), np.int32)
            answers, first = [], 0
            for request in requests:
                last = first + len(request["image"])
                answers.append({"tokens": tokens[first:last]})
                first = last
            return answers

        return infer

    delay = settings.get("max_queue_delay_microseconds")
    config = ModelConfig(
        batching=True,
        max_batch_size=settings.get("max_batch_size", 8),
        batcher=DynamicBatcher(
            max_queue_delay_microseconds=delay or 0,
            preferred_batch_size=settings.get("preferred_batch_size"),
        ),
    )
    triton = Triton(
        config=TritonConfig(
            http_address="127.0.0.1",
            http_port=port,
            http_thread_count=settings.get("http_thread_count", 8),
            allow_grpc=False,
            allow_metrics=settings.get("allow_metrics", False),
            log_verbose=0,
        )
    )
    with triton:
        triton.bind(
            model_name="encoder",
            infer_func=[instance() for _ in range(settings.get("instances", 1))],
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="tokens", dtype=np.int32, shape=(-1, -1))],
            config=config,
        )
        triton.serve()


if __name__ == "__main__":
    main()
