"""What a hit costs beside a miss of the taxi model, and what the cache adds to a miss."""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from gateway_process import Gateway, gateway
from taxi_release import BODY, ROW, release
from wrk import Load, wrk

PATH = "/v1/models/taxi:predict"
# No two rows of one run are the same row, nor the same to the model's buckets.
_SERIAL = count(1)


def run(quick: bool) -> dict[str, Any]:
    """Measures one worker on one core, wrk on the other."""
    rounds, seconds = (1, 2) if quick else (5, 2)
    with tempfile.TemporaryDirectory() as folder, release() as releases:
        off = Path(folder) / "off.yaml"
        off.write_text("default: {mode: off}\n")
        flags = [f"--releases={releases}", f"--cache_dir={folder}/cache"]
        without = [f"--releases={releases}", f"--cache_config={off}"]
        with (
            gateway(flags, Path(folder) / "on.log", core=0) as cached,
            gateway(without, Path(folder) / "off.log", core=0) as plain,
        ):
            rows = _rounds(cached, plain, rounds, seconds)
    return {
        "title": "A hit beside a miss",
        "rows": rows,
        "notes": [
            "The taxi model of `make run`, signature `predict_raw`, one row a request, REST, "
            "keep-alive; one worker on core 0, wrk on core 1. A miss is a row that no tier has "
            "under its raw key or its transformed key; `without cache` is the same gateway with "
            "`mode: off`, `with cache` stores each answer in memory and LMDB.",
            "CPU is that of the server's process (user and system) for each request. "
            f"Medians of {rounds} rounds of {seconds} s, in turn.",
        ],
    }


def _rounds(cached: Gateway, plain: Gateway, rounds: int, seconds: int) -> list[dict[str, Any]]:
    hit = [json.dumps(BODY)]
    kinds: list[tuple[str, Gateway, Callable[[], list[str]], int]] = [
        ("hit, body seen before", cached, lambda: hit, 16),
        ("miss with cache", cached, lambda: _unseen(seconds * 6000), 1),
        ("miss without cache", plain, lambda: _unseen(seconds * 6000), 1),
        ("miss with cache", cached, lambda: _unseen(seconds * 12000), 16),
        ("miss without cache", plain, lambda: _unseen(seconds * 12000), 16),
        ("hit, body seen before", cached, lambda: hit, 1),
    ]
    seen: dict[tuple[str, int], list[tuple[Load, float]]] = {}
    for _ in range(rounds):
        for name, server, bodies, connections in kinds:
            measured = _measure(server, bodies(), seconds, connections)
            seen.setdefault((name, connections), []).append(measured)
    return list(_table(seen))


def _table(seen: dict[tuple[str, int], list[tuple[Load, float]]]) -> Iterator[dict[str, Any]]:
    hits = {c: _median([cpu for _, cpu in runs]) for (n, c), runs in seen.items() if "hit" in n}
    for (name, connections), runs in sorted(seen.items(), key=lambda item: item[0][1]):
        cpu = _median([cpu for _, cpu in runs])
        row: dict[str, Any] = {
            "request": name,
            "connections": connections,
            "requests/s": round(_median([load.requests for load, _ in runs])),
            "p50 us": round(_median([load.p50 for load, _ in runs])),
            "CPU us": round(cpu, 1),
            "CPU of a hit": f"{cpu / hits[connections]:.1f} x",
        }
        if name == "miss with cache":
            other = seen["miss without cache", connections]
            pairs = [mine[1] / theirs[1] for mine, theirs in zip(runs, other, strict=True)]
            slower = [mine[0].p50 / theirs[0].p50 for mine, theirs in zip(runs, other, strict=True)]
            row["CPU of the miss without"] = f"{_median(pairs):.3f} x"
            row["p50 of the miss without"] = f"{_median(slower):.3f} x"
        yield row


def _unseen(number: int) -> list[str]:
    """Bodies of rows that were never asked for."""
    bodies = []
    for _ in range(number):
        instance = ROW | {"payment_type": f"card {next(_SERIAL)}"}
        bodies.append(json.dumps({"signature_name": "predict_raw", "instances": [instance]}))
    return bodies


def _measure(
    server: Gateway, bodies: list[str], seconds: int, connections: int
) -> tuple[Load, float]:
    before = _cpu_seconds(server.pid)
    load = wrk(
        f"http://127.0.0.1:{server.port}{PATH}",
        bodies,
        seconds=seconds,
        connections=connections,
        core=1,
    )
    if load.failed:
        raise RuntimeError(f"{load.failed} requests failed; see {server.log}")
    if len(bodies) > 1 and load.requests * seconds > len(bodies):
        raise RuntimeError(f"rows were asked for twice: {load.requests * seconds} of {len(bodies)}")
    used = _cpu_seconds(server.pid) - before
    return load, used * 1e6 / (load.requests * seconds)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _median(values: list[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=1))
