"""Runs wrk, the load generator, and reads what it prints."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7}


@dataclass(frozen=True)
class Load:
    """What one run gave.

    Attributes:
        requests: a second.
        p50: latency in microseconds, likewise p99.
        failed: answers other than 2xx and 3xx, and broken connections.
    """

    requests: float
    p50: float
    p99: float
    failed: int


def wrk(
    url: str,
    bodies: list[str],
    *,
    seconds: int,
    connections: int,
    core: int | None = None,
    headers: dict[str, str] | None = None,
) -> Load:
    """Posts bodies, one after the other, over keep-alive connections from one thread.

    Raises:
        RuntimeError: wrk is not installed, or could not connect.
    """
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not installed: apt install wrk")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(_script(bodies, headers or {}))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s"]
        command += [str(script), url]
        if core is not None:
            command = ["taskset", "-c", str(core), *command]
        output = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=seconds + 60
        ).stdout
    return read(output)


def read(output: str) -> Load:
    """Reads what wrk printed."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if rate is None:
        raise RuntimeError(f"wrk printed no rate:\n{output}")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    broken = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output
    )
    count = int(failed[1]) if failed else 0
    count += sum(map(int, broken.groups())) if broken else 0
    return Load(float(rate[1]), _percentile(output, "50"), _percentile(output, "99"), count)


def _percentile(output: str, percent: str) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)$", output, re.MULTILINE)
    return float(found[1]) * _UNITS[found[2]] if found else float("nan")


def _script(bodies: list[str], headers: dict[str, str]) -> str:
    lines = ['wrk.method = "POST"', 'wrk.headers["Content-Type"] = "application/json"']
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    if len(bodies) == 1:
        return "\n".join([*lines, f"wrk.body = {json.dumps(bodies[0])}", ""])
    quoted = ",\n".join(json.dumps(body) for body in bodies)
    return "\n".join(
        [
            *lines,
            f"local bodies = {{\n{quoted}\n}}",
            "local made, at = {}, 0",
            "init = function(args)",
            "  for place, body in ipairs(bodies) do",
            "    made[place] = wrk.format(nil, nil, nil, body)",
            "  end",
            "end",
            "request = function()",
            "  at = at % #made + 1",
            "  return made[at]",
            "end",
            "",
        ]
    )
