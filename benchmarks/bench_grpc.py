"""gRPC hits beside a bare grpc.aio server of the same kind that returns fixed bytes.

Each server is a process of its own on one core, h2load on the other. h2load sends one request over
and over, so rows are measured with the tier of whole responses turned off: every request is parsed
then, as if its bytes were new. The servers count their metrics as in service.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CONNECTIONS, STREAMS = 8, 8
FLOATS = ("trip_miles", "fare", "trip_seconds", "pickup_latitude", "pickup_longitude")
FLOATS += ("dropoff_latitude", "dropoff_longitude")
INTS = ("trip_start_hour", "trip_start_day", "trip_start_month", "pickup_community_area")
INTS += ("dropoff_community_area", "pickup_census_tract", "dropoff_census_tract")
INTS += ("trip_start_timestamp",)
STRINGS = ("company", "payment_type")
DTYPES = dict.fromkeys(FLOATS, "float32") | dict.fromkeys(INTS, "int64")
DTYPES |= dict.fromkeys(STRINGS, "string")

# name -> (request, raw tier in bytes, headers, what it shows)
SERVERS = {
    "bare": ("tensors", 0, False, "bare grpc.aio server, fixed bytes"),
    "raw": ("tensors", 2**26, True, "request seen byte for byte"),
    "raw without metadata": ("tensors", 2**26, False, "the same, trailing metadata off"),
    "row of 17 tensors": ("tensors", 0, True, "row seen, 17 tensors"),
    "row of one Example": ("examples", 0, True, "row seen, a tf.Example of 17 features"),
    "row of one tensor": ("one", 0, True, "row seen, one tensor of 17 floats"),
}


def values() -> dict[str, Any]:
    made: dict[str, Any] = {name: 1.5 + at for at, name in enumerate(FLOATS)}
    made |= {name: 17 + at for at, name in enumerate(INTS)}
    return made | {"company": b"Flash Cab", "payment_type": b"Credit Card"}


# --- the server's process -------------------------------------------------------------------------


def request_of(kind: str) -> Any:
    import numpy as np
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    from tfx_encore.gateway.tensor_proto import to_proto

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "taxi"
    request.model_spec.signature_name = kind
    if kind == "tensors":
        for name, value in values().items():
            array = np.array([value], object if DTYPES[name] == "string" else DTYPES[name])
            request.inputs[name].CopyFrom(to_proto(array))
    elif kind == "one":
        request.inputs["x"].CopyFrom(to_proto(np.arange(17, dtype=np.float32)[None]))
    else:
        example = tf.train.Example()
        for name, value in values().items():
            feature = example.features.feature[name]
            if isinstance(value, bytes):
                feature.bytes_list.value.append(value)
            elif isinstance(value, float):
                feature.float_list.value.append(value)
            else:
                feature.int64_list.value.append(value)
        array = np.empty(1, dtype=object)
        array[0] = example.SerializeToString()
        request.inputs["examples"].CopyFrom(to_proto(array))
    return request


def servable() -> Any:
    import numpy as np

    from tfx_encore.cache.inference_cache import InferenceCache
    from tfx_encore.cache.memory_store import MemoryStore
    from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
    from tfx_encore.gateway.servable import Plan, Servable
    from tfx_encore.gateway.signature import PREDICT, Signature, TensorSpec

    outputs = {"outputs": TensorSpec("float32", (-1, 1))}
    inputs = {name: TensorSpec(dtype, (-1,)) for name, dtype in DTYPES.items()}
    one, examples = (
        {"x": TensorSpec("float32", (-1, 17))},
        {"examples": TensorSpec("string", (-1,))},
    )
    tensors = [FeatureSpec(name, "tensor", dtype) for name, dtype in DTYPES.items()]
    dense = [FeatureSpec(name, "dense", dtype, (1,)) for name, dtype in DTYPES.items()]
    wide = (FeatureSpec("x", "tensor", "float32", (17,)),)
    specs = {
        "tensors": SignatureSpec("tensors", "tensors", features=tuple(tensors)),
        "one": SignatureSpec("one", "tensors", features=wide),
        "examples": SignatureSpec("examples", "examples", "examples", tuple(dense)),
    }

    class Model:
        def __init__(self) -> None:
            self.name, self.version = "taxi", 1
            self.signatures = {
                "tensors": Signature("tensors", PREDICT, inputs, outputs),
                "one": Signature("one", PREDICT, one, outputs),
                "examples": Signature("examples", PREDICT, examples, outputs),
            }
            self.signature_def: dict[str, Any] = {}

        async def run(self, _: str, inputs: Any, __: Sequence[str]) -> dict[str, Any]:
            rows = len(next(iter(inputs.values())))
            return {"outputs": np.full((rows, 1), 0.25, np.float32)}

        async def close(self) -> None:
            pass

    model = Model()
    return Servable(
        model,
        "sha256:" + "ab" * 32,
        plans={name: Plan("rows", spec) for name, spec in specs.items()},
        cache=InferenceCache("taxi", [MemoryStore(2**26)]),
        merged=model,
        alone=model,
    )


async def serve_bare(kind: str) -> tuple[int, Any]:
    import grpc

    answer = request_of(kind).SerializeToString()[:60]  # about what a response holds

    async def predict(_: bytes, __: Any) -> bytes:
        return answer

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    method = grpc.unary_unary_rpc_method_handler(predict)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "tensorflow.serving.PredictionService", {"Predict": method}
            ),
        )
    )
    port = int(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    return port, server


async def serve(name: str, folder: Path) -> None:
    from tfx_encore.gateway.metrics import GatewayMetrics
    from tfx_encore.gateway.routing import Router, Routes
    from tfx_encore.gateway.rpc.server import serve_grpc
    from tfx_encore.gateway.rpc.service import GrpcService

    kind, raw_bytes, headers, _ = SERVERS[name]
    (folder / "request").write_bytes(framed(request_of(kind).SerializeToString()))
    if name == "bare":
        port, listener = await serve_bare(kind)
    else:
        router = Router()
        router.publish("taxi", Routes({1: servable()}))
        service = GrpcService(router, None, GatewayMetrics(), headers=headers, raw_bytes=raw_bytes)
        listener = await serve_grpc(service, "127.0.0.1", 0)
        port = listener.port
    print(port, flush=True)
    await asyncio.Event().wait()
    del listener  # a server that nobody holds stops


def framed(message: bytes) -> bytes:
    """A message as gRPC puts it on the wire: not compressed, its length, its bytes."""
    return struct.pack(">BI", 0, len(message)) + message


# --- measuring ------------------------------------------------------------------------------------


@contextlib.contextmanager
def server(name: str, folder: Path) -> Iterator[int]:
    command = ["taskset", "-c", "0", sys.executable, __file__, "--serve", name, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def load(port: int, folder: Path, requests: int) -> dict[str, float]:
    """Runs h2load; requests a second and the latency of the median and the mean."""
    method = "tensorflow.serving.PredictionService/Predict"
    command = ["taskset", "-c", "1", "h2load", "-n", str(requests)]
    command += ["-c", str(CONNECTIONS), "-m", str(STREAMS), "-d", str(folder / "request")]
    command += ["-H", "te: trailers", "-H", "content-type: application/grpc"]
    command += [f"--log-file={folder / 'log'}", f"http://127.0.0.1:{port}/{method}"]
    (folder / "log").unlink(missing_ok=True)
    out = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    done = re.search(r"(\d+) succeeded", out)
    rate = re.search(r"([\d.]+) req/s", out)
    assert done, out
    assert rate, out
    assert int(done.group(1)) == requests, out
    times = sorted(
        int(line.split("\t")[2]) for line in (folder / "log").read_text().splitlines() if line
    )
    return {
        "requests/s": float(rate.group(1)),
        "p50 ms": times[len(times) // 2] / 1e3,
        "p99 ms": times[len(times) * 99 // 100] / 1e3,
    }


def run(quick: bool) -> dict[str, Any]:
    requests, repeats = (3000, 3) if quick else (20_000, 3)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SERVERS}
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        ports = {}
        for name in SERVERS:
            folder = Path(temporary, name)
            folder.mkdir()
            ports[name] = stack.enter_context(server(name, folder))
            load(ports[name], folder, requests // 5)  # warm: rows and bytes are seen then
        for _ in range(repeats):  # in turn, so that what else the machine does hits all alike
            for name, port in ports.items():
                found[name].append(load(port, Path(temporary, name), requests))
    medians = {
        name: {key: statistics.median(item[key] for item in items) for key in items[0]}
        for name, items in found.items()
    }
    bare = medians["bare"]["requests/s"]
    rows = [
        {"what": SERVERS[name][3], **row, "of the bare server": row["requests/s"] / bare}
        for name, row in medians.items()
    ]
    return {
        "title": "gRPC: hits beside a bare server",
        "rows": rows,
        "notes": [
            f"One server process on one core, h2load on the other: {CONNECTIONS} connections of "
            f"{STREAMS} streams, {requests} requests, medians of {repeats} rounds. The latency is "
            "that of a server that has all it can do. Wanted of hits: 80% of the bare server. Rows "
            "are measured with the raw tier off, so that every request is parsed.",
        ],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", nargs=2)
    parser.add_argument("--full", action="store_true")
    given = parser.parse_args()
    if given.serve:
        import uvloop

        uvloop.install()
        asyncio.run(serve(given.serve[0], Path(given.serve[1])))
    else:
        for line in run(not given.full)["rows"]:
            print(line)
