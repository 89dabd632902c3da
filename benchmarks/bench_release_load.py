"""A release while traffic goes on: the hit rate around the switch, with CacheWarmer and without.

Two runs, alike but for the snapshot: a gateway that begins empty, the same requests at the same
times, version 1 until the cache is in its steady state, then version 2, which shares no answer with
version 1. In the first run CacheWarmer gets the request log that the gateway has written until then
and its snapshot is pushed with version 2; in the second version 2 is pushed by itself as late.

Each answer is checked against what its version gives for its row, computed before; and an answer
of a lower version than one that had answered before its request was sent is stale.
"""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import release_load_client as client
from gateway_process import Gateway, gateway
from release_load_report import Run, Size, picture, report
from release_load_steps import NAME

ROOT = Path(__file__).resolve().parents[1]
IMAGE = ROOT / "docs" / "images" / "release-under-load.png"
QUICK_IMAGE = ROOT / ".cache" / "release-under-load.png"
STEPS = Path(__file__).with_name("release_load_steps.py")
_WARM_SECONDS = 240.0  # CacheWarmer at most
_SWITCH_SECONDS = 60.0  # from the push to the first answer of the new version at most


FULL = Size(100_000, 1_000, 300.0, 90.0, 60.0)
QUICK = Size(5_000, 1_000, 20.0, 15.0, 10.0)


def run(quick: bool) -> dict[str, Any]:
    """Measures both runs, writes the picture, returns the table."""
    return measure(QUICK if quick else FULL)


def measure(size: Size) -> dict[str, Any]:
    """The same at any size."""
    folder = Path(tempfile.mkdtemp(prefix="encore-release-load-"))
    try:
        steps = _Steps(folder / "models", size.rows, folder / "steps.log")
        try:
            steps.wait_for("models")
            warmed = _measure(folder, "warmed", size, steps)
        finally:
            steps.close()
        bare = _measure(folder, "bare", size, warmed.pushed_at)
        picture(IMAGE if size == FULL else QUICK_IMAGE, size, warmed, bare)
        return report(size, warmed, bare)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- one run ------------------------------------------------------------------------------------


def _measure(folder: Path, name: str, size: Size, how: _Steps | float) -> Run:
    """Runs once; warms version 2 by the steps, or pushes it as it is at a given second."""
    home = folder / name
    home.mkdir()
    _push(home, folder / "models" / "1", None)
    flags = [f"--releases={home / 'releases'}", f"--request_log_dir={home / 'requests'}"]
    flags += ["--request_log_rate=1.0", "--request_log_max_per_minute=0"]
    seconds = size.steady + _WARM_SECONDS + _SWITCH_SECONDS + size.after
    traffic = client.Traffic(size.rows, size.rate, seconds)
    with (
        gateway(flags, home / "gateway.log") as server,
        _clients(server, traffic, folder / "models", home / "requests.npz") as controls,
    ):
        began = controls.begun.value
        log, warm_seconds, records = None, 0.0, 0
        if isinstance(how, _Steps):
            how.wait_for("ready")
            _sleep_until(began + size.steady)
            records = _read_log(home / "requests", home / "log")
            log = home / "warmer"
            start = time.monotonic()
            pattern = f"{home / 'log'}/*.tfrecord"
            model = folder / "models" / "2"
            how.warm(model, pattern, home / "releases", log, size.rows)
            warm_seconds = time.monotonic() - start
        else:
            _sleep_until(began + how)
        pushed_at = time.monotonic()
        _push(home, folder / "models" / "2", log)
        _wait_for_switch(controls, pushed_at + _SWITCH_SECONDS)
        _sleep_until(controls.switched.value + size.after + 0.5)
        figures = functools.partial(_figure, server.get("/metrics").decode())
    with np.load(home / "requests.npz") as file:
        arrays = dict(file)
    return Run(
        arrays,
        pushed_at - began,
        controls.switched.value - began,
        log,
        warm_seconds,
        records,
        figures("encore_request_log_dropped_total"),
        figures("encore_cache_bytes"),
        figures("encore_cache_evictions_total"),
    )


@contextlib.contextmanager
def _clients(
    server: Gateway, traffic: client.Traffic, scores: Path, output: Path
) -> Iterator[client.Controls]:
    """Runs the client until the end of the block, and waits for what it wrote."""
    context = multiprocessing.get_context("fork")
    controls = client.Controls(
        context.Value("d", 0.0),
        context.Value("q", 0),
        context.Value("d", 0.0),
        context.Value("q", 0),
    )
    process = context.Process(
        target=client.run, args=(server.port, traffic, controls, scores, output)
    )
    process.start()
    try:
        while not controls.begun.value:
            if not process.is_alive():
                raise RuntimeError("the client ended before it began")
            time.sleep(0.01)
        yield controls
        controls.stop.value = 1
        process.join(60)
        if process.exitcode != 0:
            raise RuntimeError(f"the client ended with {process.exitcode}")
    finally:
        process.kill()


def _push(home: Path, model: Path, warmed: Path | None) -> None:
    """Pushes a version as VersionedPusher does, with what CacheWarmer wrote if it ran."""
    from tfx_encore.metadata.release_layout import COVERAGE, SNAPSHOT, WARMUP
    from tfx_encore.metadata.release_push import PushRequest
    from tfx_encore.metadata.releases import ReleaseDirectory
    from tfx_encore.schemas.release import Certificate
    from tfx_encore.schemas.serial import from_json

    request = PushRequest(model)
    if warmed is not None:
        snapshot = warmed / "snapshot"
        certificate = (snapshot / "certificate.json").read_bytes()
        request = PushRequest(
            model,
            evidence={SNAPSHOT: snapshot, COVERAGE: warmed / "coverage"},
            warmup=snapshot / WARMUP.name,
            certificate=from_json(Certificate, certificate, source="certificate"),
        )
    ReleaseDirectory(home / "releases", NAME).push(request)


def _read_log(source: Path, target: Path) -> int:
    """Copies the request log as far as it is written; returns how many requests it holds.

    The file that the gateway is writing has a hidden name until it is closed (after 10 minutes or
    128 MiB); what it holds so far is cut to whole records.
    """
    from tfx_encore.gateway.request_log_files import whole_records

    target.mkdir()
    total = 0
    for path in sorted(source.glob(f"{NAME}/*/*"), key=lambda path: path.name.lstrip(".")):
        copy = target / path.name.removeprefix(".").removesuffix(".part")
        shutil.copyfile(path, copy)
        with copy.open("r+b") as file:
            records, size = whole_records(file)
            file.truncate(size)
        total += records
    return total


class _Steps:
    """The process of the steps that need TensorFlow (`release_load_steps`)."""

    def __init__(self, models: Path, rows: int, log: Path) -> None:
        command = [sys.executable, str(STEPS), str(models), str(rows)]
        environ = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environ,
                text=True,
            )

    def warm(self, *arguments: object) -> None:
        """Runs CacheWarmer; the arguments are those of `release_load_steps.warm`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
        self._process.stdin.flush()
        self.wait_for("warmed")

    def wait_for(self, word: str) -> None:
        """Waits until the process says a word.

        Raises:
            RuntimeError: it ended instead.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == word:
                return
        raise RuntimeError(f"no {word!r} from the steps:\n{self._log.read_text()[-3000:]}")

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait(10)


def _wait_for_switch(controls: client.Controls, end: float) -> None:
    while controls.highest.value < 2:
        if time.monotonic() > end:
            raise RuntimeError(f"version 2 did not answer within {_SWITCH_SECONDS:g} s of its push")
        time.sleep(0.01)


def _sleep_until(end: float) -> None:
    time.sleep(max(end - time.monotonic(), 0.0))


def _figure(page: str, name: str) -> int:
    """The sum of a metric over its labels."""
    found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", page, re.MULTILINE)
    return round(sum(map(float, found)))


def _main() -> None:
    """`--quick`, or another steady state: `--steady=60`, which writes no picture into docs."""
    size = QUICK if "--quick" in sys.argv else FULL
    for argument in sys.argv[1:]:
        if argument.startswith("--steady="):
            steady = float(argument.removeprefix("--steady="))
            size = Size(FULL.rows, FULL.rate, steady, 30.0, 30.0)
    print(json.dumps(measure(size), indent=1))


if __name__ == "__main__":
    _main()
