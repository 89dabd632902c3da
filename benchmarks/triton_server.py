"""The peer of `bench_triton`: a taxi-like model behind Triton with its response cache.

Runs in an environment of its own (requirements/triton.txt), started by the benchmark:
`python triton_server.py HTTP_PORT GRPC_PORT`; ends when its standard input does.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

NUMBERS = ("fare", "trip_miles", "pickup_latitude", "pickup_longitude")


@batch
def infer(**inputs: Any) -> dict[str, Any]:
    """Returns a score; what it is does not matter, as only hits are measured."""
    total = sum(inputs[name].astype(np.float32) for name in NUMBERS)
    score = 1 / (1 + np.exp(-total / 100))
    return {"probability": score.astype(np.float32).reshape(-1, 1)}


def main(http_port: int, grpc_port: int) -> None:
    """Serves until standard input ends."""
    config = TritonConfig(
        http_port=http_port,
        grpc_port=grpc_port,
        http_address="127.0.0.1",
        grpc_address="127.0.0.1",
        allow_metrics=False,
        cache_config=["local,size=268435456"],
    )
    inputs = [Tensor(name=name, dtype=np.float32, shape=(1,)) for name in NUMBERS]
    inputs.append(Tensor(name="trip_start_hour", dtype=np.int64, shape=(1,)))
    inputs.append(Tensor(name="payment_type", dtype=bytes, shape=(1,)))
    with Triton(config=config) as triton:
        triton.bind(
            model_name="taxi",
            infer_func=infer,
            inputs=inputs,
            outputs=[Tensor(name="probability", dtype=np.float32, shape=(1,))],
            config=ModelConfig(max_batch_size=256, response_cache=True),
        )
        triton.run()
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
