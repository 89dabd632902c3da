"""REST hits beside a bare server: bodies seen before byte for byte, and rows seen before.

Each server is a process of its own on one core, wrk another on another core. The bare server is an
asyncio Protocol on uvloop and httptools that returns fixed bytes of the same length.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httptools
import numpy as np
import uvloop

CONNECTIONS = 16
BODIES = 1000
_PAUSING = 900
FLOATS = ("dropoff_latitude", "dropoff_longitude", "fare", "pickup_latitude", "pickup_longitude")
FLOATS += ("trip_miles", "trip_seconds")
INTS = ("dropoff_census_tract", "dropoff_community_area", "pickup_census_tract")
INTS += ("pickup_community_area", "trip_start_day", "trip_start_hour", "trip_start_month")
INTS += ("trip_start_timestamp",)
TEXTS = ("company", "payment_type")


def body(rng: random.Random) -> str:
    """A request of one row of the Chicago Taxi example, about 450 bytes."""
    row: dict[str, Any] = {name: round(rng.random() * 100, 3) for name in FLOATS}
    row |= {name: rng.randint(0, 1000) for name in INTS}
    row |= {"company": "Flash Cab", "payment_type": rng.choice(["Cash", "Credit Card"])}
    return json.dumps({"instances": [row]}, separators=(",", ":"))


# --- servers, each in its own process -----------------------------------------------------------


class Bare(asyncio.Protocol):
    """Answers every request with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is connected."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """A request is there."""
        self._transport.write(self._answer)


class Fake:
    """A model that needs no TensorFlow: the sum of the numeric features."""

    name, version = "taxi", 1

    def __init__(self, signature: Any) -> None:
        self.signatures = {signature.name: signature}
        self.signature_def: Mapping[str, Any] = {}

    async def run(
        self, signature: str, inputs: Mapping[str, Any], outputs: Sequence[str]
    ) -> dict[str, Any]:
        """Computes one batch."""
        del signature, outputs
        return {"outputs": np.float32(sum(inputs[name] for name in FLOATS)).reshape(-1, 1)}

    async def close(self) -> None:
        """Has nothing to let go of."""


def gateway_service() -> Any:
    """The REST service of a gateway with that model."""
    from tfx_encore.cache.inference_cache import InferenceCache
    from tfx_encore.cache.memory_store import MemoryStore
    from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
    from tfx_encore.gateway.observer import GatewayObserver
    from tfx_encore.gateway.rest.service import RestService
    from tfx_encore.gateway.routing import Router, Routes
    from tfx_encore.gateway.servable import Plan, Servable
    from tfx_encore.gateway.signature import PREDICT, Signature, TensorSpec

    dtypes = dict.fromkeys(FLOATS, "float32") | dict.fromkeys(INTS, "int64")
    dtypes |= dict.fromkeys(TEXTS, "string")
    signature = Signature(
        "serving_default",
        PREDICT,
        {name: TensorSpec(dtype, (-1,)) for name, dtype in dtypes.items()},
        {"outputs": TensorSpec("float32", (-1, 1))},
    )
    features = [FeatureSpec(name, "tensor", dtypes[name]) for name in sorted(dtypes)]
    plan = Plan("rows", SignatureSpec("serving_default", "tensors", "", tuple(features)))
    model = Fake(signature)
    cache = InferenceCache("taxi", [MemoryStore(256 * 2**20)])
    servable = Servable(
        model,
        "sha256:" + "ab" * 32,
        plans={"serving_default": plan},
        cache=cache,
        merged=model,
        alone=model,
    )
    router = Router()
    router.publish("taxi", Routes({1: servable}))
    try:
        from tfx_encore.gateway.metrics import GatewayMetrics

        observer: GatewayObserver = GatewayMetrics()
    except ImportError:
        observer = GatewayObserver()
    return RestService(router, None, observer, None)  # type: ignore[arg-type]


async def serve(kind: str, answer: bytes) -> None:
    """Serves until it is killed; prints its port."""
    if kind == "bare":
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Bare(answer), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
    else:
        from tfx_encore.gateway.rest.listen import serve_rest

        port = (await serve_rest(gateway_service(), "127.0.0.1", 0)).port
        # As a worker does: what was imported is not looked at by every full collection.
        gc.collect()
        gc.freeze()
    print(port, flush=True)
    await asyncio.Event().wait()


@contextlib.contextmanager
def server(kind: str, answer: bytes = b"") -> Iterator[tuple[int, int]]:
    """Yields port and process id of a server in a process of its own."""
    command = ["taskset", "-c", _cores()[0], sys.executable, __file__, "--serve", kind]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(answer)
        process.stdin.close()
        yield int(process.stdout.readline()), process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


_RUNS = itertools.count()

# --- load ---------------------------------------------------------------------------------------

_SCRIPT = """
local bodies = {}
for line in io.lines("%(file)s") do bodies[#bodies + 1] = line end
local head = "POST /v1/models/taxi:predict HTTP/1.1\\r\\nHost: localhost\\r\\n" ..
    "Content-Type: application/json\\r\\nContent-Length: "
local fixed = {}
for place, body in ipairs(bodies) do
    fixed[place] = head .. (#body + 24) .. "\\r\\n\\r\\n" .. body .. string.rep(" ", 24)
end
local at, count = 0, 0
init = function(arguments) count = tonumber(arguments[1]) end
local low, middle, high = {}, {}, {}
for number = 0, 255 do
    local text = ""
    for bit = 0, 7 do
        text = text .. ((math.floor(number / 2 ^ bit) %% 2 == 0) and " " or "\\t")
    end
    low[number], middle[number], high[number] = text, text, text
end
request = function()
    at = at %% #bodies + 1
    if "%(kind)s" ~= "rows" then return fixed[at] end
    count = count + 1
    local body = bodies[at]
    return head .. (#body + 24) .. "\\r\\n\\r\\n" .. body .. low[count %% 256] ..
        middle[math.floor(count / 256) %% 256] .. high[math.floor(count / 65536) %% 256]
end
if "%(kind)s" == "half" then delay = function() return 1 end end
done = function(summary, latency, requests)
    local form = "JSON {'count': %%d, 'us': %%d, 'p50': %%f, 'p99': %%f, 'bad': %%d}\\n"
    local errors = summary.errors
    local bad = errors.status + errors.read + errors.write + errors.timeout + errors.connect
    io.write(string.format(string.gsub(form, "'", '"'), summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99), bad))
end
"""


def processor_seconds(process: int) -> float:
    """User and system time that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wrk(
    of: tuple[int, int], script: Path, seconds: float, connections: int = CONNECTIONS
) -> dict[str, float]:
    """Requests a second, requests a second of the server's processor, microseconds of latency."""
    port, process = of
    begun = processor_seconds(process)
    command = ["taskset", "-c", _cores()[1], "wrk", "-t1", f"-c{connections}"]
    command += [f"-d{seconds:g}s", "-s", str(script), f"http://127.0.0.1:{port}/", "--"]
    command.append(str(next(_RUNS) % 64 * 2**18))  # no body of one run is that of another
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(re.findall(r"^JSON (.*)$", output, re.MULTILINE)[0])
    if found["bad"]:
        raise RuntimeError(f"{found['bad']} requests failed: {output}")
    return {
        "rate": found["count"] / (found["us"] / 1e6),
        "cpu": found["count"] / (processor_seconds(process) - begun),
        "p50": found["p50"],
        "p99": found["p99"],
    }


def script_of(folder: Path, kind: str, bodies: Sequence[str]) -> Path:
    """Writes what wrk is to send."""
    lines = folder / f"{kind}.txt"
    lines.write_text("\n".join(bodies) + "\n", encoding="utf-8")
    script = folder / f"{kind}.lua"
    script.write_text(_SCRIPT % {"file": lines, "kind": kind}, encoding="utf-8")
    return script


def _cores() -> tuple[str, str]:
    cores = sorted(os.sched_getaffinity(0))
    return str(cores[0]), str(cores[-1])


def run(quick: bool) -> dict[str, Any]:
    """Measures all of them in turn, several times."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not installed: apt-get install wrk")
    rounds, seconds = (3, 1.0) if quick else (5, 2.0)
    rng = random.Random(1)
    bodies = [body(rng) for _ in range(BODIES)]
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        scripts = {
            "same": script_of(folder, "same", bodies[:1]),
            "bodies": script_of(folder, "bodies", bodies),
            "rows": script_of(folder, "rows", bodies),
        }
        half = script_of(folder, "half", bodies[:1])
        ours = stack.enter_context(server("gateway"))
        wrk(ours, scripts["bodies"], 1.0)
        bare = stack.enter_context(server("bare", _fixed(ours[0], bodies[0])))
        for _ in range(rounds):
            found.setdefault("bare", []).append(wrk(bare, scripts["same"], seconds))
            for kind, script in scripts.items():
                found.setdefault(kind, []).append(wrk(ours, script, seconds))
        # A connection that pauses for 1 ms after each answer asks about 900 times a second.
        load = statistics.median(one["rate"] for one in found["same"]) / 2
        for _ in range(rounds):
            found.setdefault("half", []).append(
                wrk(ours, half, seconds, max(1, round(load / _PAUSING)))
            )
    return _result(found)


def _fixed(port: int, text: str) -> bytes:
    """What the gateway answers, whole, for the bare server to repeat."""
    import socket

    head = "POST /v1/models/taxi:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"{head}{len(text)}\r\n\r\n{text}".encode())
        time.sleep(0.2)
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200 OK"), answer
    return answer


_NAMES = {
    "bare": "bare server, fixed bytes",
    "same": "gateway: one body, seen before byte for byte",
    "bodies": f"gateway: {BODIES:,} bodies, seen before byte for byte",
    "rows": f"gateway: {BODIES:,} rows seen before, no body",
    "half": "gateway: one body seen before, at about half the load",
}


def _result(found: Mapping[str, list[dict[str, float]]]) -> dict[str, Any]:
    rows = []
    for kind, measured in found.items():
        pairs = list(zip(measured, found["bare"], strict=True))
        rows.append(
            {
                "server": _NAMES[kind],
                "requests/s": round(statistics.median(one["rate"] for one in measured)),
                "of bare": statistics.median(mine["rate"] / bare["rate"] for mine, bare in pairs),
                "of bare, by processor time": statistics.median(
                    mine["cpu"] / bare["cpu"] for mine, bare in pairs
                ),
                "p50 us": statistics.median(one["p50"] for one in measured),
                "p99 us": statistics.median(one["p99"] for one in measured),
            }
        )
    notes = [
        f"wrk, {CONNECTIONS} connections, keep-alive, POST of about 450 bytes, one row of 17 "
        "features; server and wrk on one core each; medians of rounds in turn.",
        "Rows seen before: each body differs from every other by white space, so that it is read "
        "and its row looked up.",
    ]
    return {"title": "REST hits", "rows": rows, "notes": notes}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", choices=["bare", "gateway"])
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.serve:
        uvloop.install()
        asyncio.run(serve(arguments.serve, sys.stdin.buffer.read()))
    else:
        print(json.dumps(run(arguments.quick), indent=1))


if __name__ == "__main__":
    main()
