"""What a gateway's pod needs, with the arguments of its Deployment: memory, a start, rest.

docs/kubernetes.md derives the manifests' numbers from these. Memory is the sum of PSS over the
processes of the gateway, which counts what they share once, as a cgroup does.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from gateway_process import Gateway, gateway
from taxi_release import BODY, ROW, release

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "kubeflow" / "base"
MIB = 2**20
OWN = ("--releases", "--port", "--rest_api_port", "--workers", "--cache_", "--request_log_dir")


class Size(NamedTuple):
    """How much is measured."""

    rows: int
    starts: int
    rest_seconds: float


FULL = Size(200_000, 3, 30.0)
QUICK = Size(5_000, 1, 5.0)


def run(quick: bool) -> dict[str, Any]:
    """Measures and returns the table."""
    size = QUICK if quick else FULL
    with tempfile.TemporaryDirectory(prefix="encore-pod-") as name, release() as releases:
        folder = Path(name)
        memory = [_memory(folder, releases, workers, size) for workers in (1, 2)]
        starts = [
            _starts(folder, releases, "with its snapshot", size.starts),
            _restarts(folder, releases, size.starts),
        ]
        for snapshot in releases.glob("*/*.evidence/snapshot"):
            shutil.rmtree(snapshot)
        starts.append(_starts(folder, releases, "without", size.starts))
    return {
        "title": "A gateway's pod: memory, start, rest",
        "rows": memory + starts,
        "notes": _notes(size),
    }


def _notes(size: Size) -> list[str]:
    return [
        "The arguments and the cache's configuration of `kubeflow/base`, the taxi release with the "
        "two versions that a label holds; MiB are the sum of PSS over all processes.",
        f"Filled: {size.rows:,} distinct rows for each worker, 500 a request; the memory tier may "
        "hold 128 MiB for each worker. Most is the highest seen meanwhile, every half second. The "
        "file of the LMDB tier is mapped and not counted: a cgroup can give it up.",
        f"Starts: {size.starts}, medians; from the start of the process until the first request is "
        "answered, one worker. CPU is that of the process and its children until then. A restart "
        "finds the LMDB file of the one before, as a container that is restarted in its pod does.",
        f"Rest: share of a core that a worker uses when nobody asks, over {size.rest_seconds:g} s, "
        "scraped every 5 s.",
    ]


def _flags(folder: Path, releases: Path, workers: int) -> list[str]:
    """Those of the Deployment, with the paths of this machine."""
    deployment = yaml.safe_load((BASE / "gateway-deployment.yaml").read_text())
    args = deployment["spec"]["template"]["spec"]["containers"][0]["args"][1:]
    kept = [arg.replace("$(MODEL)", "taxi") for arg in args if not arg.startswith(OWN)]
    return [
        *kept,
        f"--releases={releases}",
        f"--workers={workers}",
        f"--cache_config={BASE / 'cache.yaml'}",
        f"--cache_dir={folder / 'cache'}",
        f"--request_log_dir={folder / 'requests'}",
        "--lame_duck_seconds=0",
    ]


@contextlib.contextmanager
def _started(
    folder: Path, releases: Path, workers: int, *, keep: bool = False
) -> Iterator[Gateway]:
    if not keep:
        shutil.rmtree(folder / "cache", ignore_errors=True)
    with gateway(_flags(folder, releases, workers), folder / "log", seconds=600.0) as started:
        yield started


# --- memory --------------------------------------------------------------------------------------


def _memory(folder: Path, releases: Path, workers: int, size: Size) -> dict[str, Any]:
    with _started(folder, releases, workers) as started:
        ready = _mib(started.pid)
        rest = _rest(started, size.rest_seconds) / workers
        with _watched(started.pid) as seen:
            _fill(started, size.rows * workers)
        return {
            "what": f"{workers} worker{'s' if workers > 1 else ''}",
            "ready, MiB": ready,
            "filled, MiB": _mib(started.pid),
            "most, MiB": max(seen),
            "memory tier, MiB": round(_tier(started) / MIB),
            "rest, share of a core": round(rest, 4),
        }


def _fill(started: Gateway, rows: int) -> None:
    random = np.random.default_rng(7)
    for _ in range(0, rows, 500):
        miles = random.gamma(2.0, 3.0, 500).round(4)
        places = random.normal(0.0, 0.1, (500, 2)).round(5)
        instances = [
            ROW
            | {
                "fare": 3 + 2.0 * float(m),
                "trip_miles": float(m),
                "pickup_latitude": 41.88 + float(north),
                "pickup_longitude": -87.63 + float(east),
            }
            for m, (north, east) in zip(miles, places, strict=True)
        ]
        body = json.dumps({**BODY, "instances": instances}).encode()
        # A connection for each: the kernel deals them out among the workers.
        url = f"http://127.0.0.1:{started.port}/v1/models/taxi:predict"
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as answer:
            answer.read()


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[list[float]]:
    seen, end = [_mib(pid)], threading.Event()

    def watch() -> None:
        while not end.wait(0.5):
            seen.append(_mib(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        end.set()
        thread.join()


def _mib(pid: int) -> float:
    total = 0
    for process in _family(pid):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{process}/smaps").read_text()
            total += sum(_pss(part) for part in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", text))
    return round(total / 1024)


def _pss(part: str) -> int:
    """KiB of one mapping; none for the file of the LMDB tier."""
    if ".mdb" in part.partition("\n")[0]:
        return 0
    return int(part.partition("\nPss:")[2].split()[0]) if "\nPss:" in part else 0


def _family(pid: int) -> list[int]:
    """A process and those below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += _family(int(child))
    return found


# --- rest and start ------------------------------------------------------------------------------


def _rest(started: Gateway, seconds: float) -> float:
    """Processor seconds a second of all workers, as the page says."""
    time.sleep(min(seconds, 5.0))
    before, begun = _cpu(started), time.monotonic()
    while time.monotonic() - begun < seconds:
        time.sleep(min(seconds, 5.0))
        after = _cpu(started)
    return (after - before) / (time.monotonic() - begun)


def _cpu(started: Gateway) -> float:
    page = started.get("/metrics").decode()
    return float(page.partition("\nencore_worker_cpu_seconds_total ")[2].split()[0])


def _tier(started: Gateway) -> float:
    """Bytes of the memory tiers of all workers."""
    page = started.get("/metrics").decode()
    return sum(
        float(n) for n in re.findall(r'^encore_cache_bytes{.*"memory".*} (.*)$', page, re.MULTILINE)
    )


def _starts(folder: Path, releases: Path, what: str, count: int) -> dict[str, Any]:
    return _start_row(f"a start {what}", [_start(folder, releases) for _ in range(count)])


def _restarts(folder: Path, releases: Path, count: int) -> dict[str, Any]:
    _start(folder, releases)
    times = [_start(folder, releases, keep=True) for _ in range(count)]
    return _start_row("a restart, with it", times)


def _start_row(what: str, times: Sequence[tuple[float, float]]) -> dict[str, Any]:
    wall, cpu = (float(np.median(each)) for each in zip(*times, strict=True))
    return {"what": what, "start, s": round(wall, 1), "start, CPU s": round(cpu, 1)}


def _start(folder: Path, releases: Path, *, keep: bool = False) -> tuple[float, float]:
    """Seconds and processor seconds until the first answer."""
    begun = time.monotonic()
    with _started(folder, releases, 1, keep=keep) as started:
        url = f"http://127.0.0.1:{started.port}/v1/models/taxi:predict"
        urllib.request.urlopen(url, json.dumps(BODY).encode(), timeout=60).read()
        return time.monotonic() - begun, sum(_used(each) for each in _family(started.pid))


def _used(pid: int) -> float:
    """User and system time, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
