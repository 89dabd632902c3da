"""A worker process, seen from the terminal's side: its start, what it tells, its end.

A pipeline runs in a process of its own so that its memory is given back, its output goes to a log,
and its death is a message. It is told what to do by a plan file and tells of its progress as JSON
lines on a pipe.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from tfx_encore.pipeline.quiet import ENVIRONMENT
from tfx_encore.schemas.errors import StepFailedError

_RECENT_LOG_LINES = 2000

Event = dict[str, Any]


def run_worker(
    module: str, plan: str, run_id: str, runs: pathlib.Path, on_event: Callable[[str, Event], None]
) -> tuple[Event, str]:
    """Runs `python -m MODULE PLAN FD` to its end.

    Args:
        module: the worker's module.
        plan: what it is to do, as JSON.
        run_id: unique name of the run.
        runs: folder for the plan and the log.
        on_event: told the kind and the body of every event but the result.

    Returns:
        the body of the event `result`, and the path of the log.

    Raises:
        StepFailedError: the worker said so, or died; names the component, its cause and the log.
    """
    plan_file, log_file = runs / f"{run_id}.plan.json", runs / f"{run_id}.log"
    plan_file.write_text(plan, encoding="utf-8")
    read_end, write_end = os.pipe()
    with log_file.open("wb") as log:
        worker = subprocess.Popen(  # noqa: S603 - our own module, our own arguments
            [sys.executable, "-m", module, str(plan_file), str(write_end)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[write_end],
            env={**os.environ, **ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    os.close(write_end)
    try:
        return _listen(worker, read_end, str(log_file), on_event), str(log_file)
    finally:
        _stop(worker)
        plan_file.unlink(missing_ok=True)


def _listen(
    worker: subprocess.Popen[bytes],
    read_end: int,
    log: str,
    on_event: Callable[[str, Event], None],
) -> Event:
    step = "the worker"
    with os.fdopen(read_end, encoding="utf-8") as events:
        for line in events:
            event: Event = json.loads(line)
            kind = event.pop("kind")
            if kind == "result":
                worker.wait()
                return event
            if kind == "error":
                worker.wait()
                raise StepFailedError(event["step"] or step, event["cause"], log)
            if kind == "started":
                step = event["step"]
            on_event(kind, event)
    raise StepFailedError(step, _death(worker.wait(), log), log)


def _death(code: int, log: str) -> str:
    """Why a worker that said nothing is gone."""
    if code == -signal.SIGKILL:
        return "the process was killed (out of memory?)"
    if code < 0:
        return f"the process died of {signal.Signals(-code).name}"
    lines = pathlib.Path(log).read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [
        line for line in lines[-_RECENT_LOG_LINES:] if re.match(r"^[\w.]*(Error|Exception)\b", line)
    ]
    return errors[-1] if errors else f"the process ended with exit code {code}"


def _stop(worker: subprocess.Popen[bytes]) -> None:
    """Ends a worker that still runs (the user interrupted), its children included."""
    if worker.poll() is not None:
        return
    os.killpg(worker.pid, signal.SIGTERM)
    deadline = time.monotonic() + 5
    while worker.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if worker.poll() is None:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
