"""Hits over HTTP beside Triton's response cache, and over gRPC, on the same cores."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway_process import free_port, gateway, stop
from taxi_release import BODY, ROW, release
from wrk import Load, wrk

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".cache" / "bench" / "triton"
PATH = "/v1/models/taxi:predict"
CONNECTIONS = (1, 16, 64)
TYPES = {"trip_start_hour": "INT64", "payment_type": "BYTES"}


def run(quick: bool) -> dict[str, Any]:
    """Measures both, alone on one core and sharing the cores with the client."""
    python = _environment()
    rounds, seconds = (1, 2) if quick else (3, 3)
    rows = [row for pinned in (True, False) for row in _rows(python, pinned, rounds, seconds)]
    return {
        "title": "Hits beside Triton's response cache",
        "rows": rows,
        "notes": [
            "Triton Inference Server as nvidia-pytriton 0.7.0 carries it, with `response_cache` "
            "and the local cache; JSON over HTTP on both sides, six features, one body asked "
            "for again and again, keep-alive, wrk with one thread. One core each: the server on "
            "core 0, wrk on core 1. Shared: both where the system puts them, two cores in all; "
            "Triton's threads then use what wrk leaves of the second core, the gateway's one "
            "worker does not.",
            f"Medians of {rounds} rounds of {seconds} s, the servers in turn.",
        ],
    }


def _rows(python: Path, pinned: bool, rounds: int, seconds: int) -> list[dict[str, Any]]:
    core = 0 if pinned else None
    with (
        tempfile.TemporaryDirectory() as folder,
        release() as releases,
        gateway([f"--releases={releases}"], Path(folder) / "log", core=core) as server,
        _triton(python, core) as port,
    ):
        ours = (f"http://127.0.0.1:{server.port}{PATH}", json.dumps(BODY))
        theirs = (f"http://127.0.0.1:{port}/v2/models/taxi/infer", json.dumps(_triton_body()))
        table = []
        for connections in CONNECTIONS:
            loads: dict[str, list[Load]] = {}
            for _ in range(rounds):
                for url, body in (ours, theirs):
                    client = 1 if pinned else None
                    load = wrk(url, [body], seconds=seconds, connections=connections, core=client)
                    loads.setdefault(url, []).append(load)
            table.append(_row(pinned, connections, loads[ours[0]], loads[theirs[0]]))
        return table


def _row(pinned: bool, connections: int, ours: list[Load], theirs: list[Load]) -> dict[str, Any]:
    if any(load.failed for load in [*ours, *theirs]):
        raise RuntimeError(f"requests failed: {ours} {theirs}")
    mine, other = _median(ours, "requests"), _median(theirs, "requests")
    return {
        "cores": "one each" if pinned else "shared",
        "connections": connections,
        "gateway hits/s": round(mine),
        "Triton hits/s": round(other),
        "ratio": round(mine / other, 2),
        "gateway p50 us": round(_median(ours, "p50")),
        "Triton p50 us": round(_median(theirs, "p50")),
    }


def _median(loads: list[Load], name: str) -> float:
    return statistics.median(getattr(load, name) for load in loads)


def _triton_body() -> dict[str, Any]:
    inputs = [
        {"name": name, "shape": [1, 1], "datatype": TYPES.get(name, "FP32"), "data": [value]}
        for name, value in ROW.items()
    ]
    return {"inputs": inputs}


@contextlib.contextmanager
def _triton(python: Path, core: int | None) -> Iterator[int]:
    port, grpc_port = free_port(), free_port()
    command = [
        str(python),
        str(ROOT / "benchmarks" / "triton_server.py"),
        str(port),
        str(grpc_port),
    ]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    # Triton's own Python backend looks for the interpreter's shared library.
    environ = os.environ | {"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environ,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == b"ready":
                break
        else:
            raise RuntimeError("Triton did not start; run benchmarks/triton_server.py by hand")
        yield port
    finally:
        stop(process)


def _environment() -> Path:
    """Installs Triton beside the project; done once."""
    python = ENVIRONMENT / "bin" / "python"
    done = ENVIRONMENT / "installed"
    pins = ROOT / "requirements" / "triton.txt"
    if done.is_file() and done.read_text() == pins.read_text():
        return python
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    uv = subprocess.run(
        [str(ROOT / "tools" / "bootstrap"), "uv"], check=True, capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(
        [uv, "venv", "--quiet", "--python", sys.executable, str(ENVIRONMENT)], check=True
    )
    install = [uv, "pip", "install", "--quiet", "--python", str(python), "--no-deps"]
    subprocess.run([*install, "--require-hashes", "-r", str(pins)], check=True)
    done.write_text(pins.read_text())
    return python


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=1))
