"""Starts `encore serve` for a benchmark, waits until it is ready, and stops it whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Gateway:
    """A gateway that answers.

    Attributes:
        port: of REST.
        grpc_port: of gRPC.
        pid: of the process that was started.
        log: file with what it printed.
    """

    port: int
    grpc_port: int
    pid: int
    log: Path

    def get(self, path: str) -> bytes:
        """Returns what a GET of a path returns."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return bytes(answer.read())


def free_port() -> int:
    """Returns a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def gateway(
    flags: Sequence[str],
    log: Path,
    *,
    core: int | None = None,
    seconds: float = 120.0,
    cwd: str | None = None,
) -> Iterator[Gateway]:
    """Runs `encore serve` with flags.

    Args:
        flags: besides the ports and the host, which are chosen here.
        log: where its output goes.
        core: the one core that it may use; None for all.
        seconds: how long it may take until it is ready.
        cwd: working directory.
    """
    port, grpc_port = free_port(), free_port()
    command = [sys.executable, "-m", "tfx_encore.pipeline.cli", "serve", "--host=127.0.0.1"]
    command += [f"--rest_api_port={port}", f"--port={grpc_port}", *flags]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    environ = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environ, cwd=cwd, start_new_session=True
        )
    try:
        _wait_until_ready(process, port, log, seconds)
        yield Gateway(port, grpc_port, process.pid, log)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Asks a process and its children to end, and ends them if they do not."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(15)


def _wait_until_ready(
    process: subprocess.Popen[bytes], port: int, log: Path, seconds: float
) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the gateway ended with {process.returncode}:\n{_tail(log)}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"the gateway was not ready in {seconds:g} s:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])
