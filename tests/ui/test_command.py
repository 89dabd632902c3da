"""`encore ui` as a person starts it."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

ENCORE = str(Path(sys.executable).parent / "encore")


@contextmanager
def started(place, *arguments):
    process = subprocess.Popen(
        [ENCORE, "ui", "--config", str(place.file), "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process, process.stdout.readline()
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_it_prints_its_address_serves_it_and_ends_quietly_on_ctrl_c(place, get):
    with started(place) as (process, line):
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)[0]
        assert get(address).status == 200
        assert get(f"{address}cache").status == 200
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert not [name for name in ("tensorflow", "ml_metadata", "matplotlib") if name in maps]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == ""


def test_a_host_that_others_can_reach_gets_a_token_that_is_printed(place, get):
    with started(place, "--host", "0.0.0.0") as (_, line):
        port, token = re.search(r":(\d+)/\?token=(\S{16,})", line).groups()
        assert get(f"http://127.0.0.1:{port}/").status == 401
        bearer = {"authorization": f"Bearer {token}"}
        assert get(f"http://127.0.0.1:{port}/", **bearer).status == 200


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--token", "short"], "--token"),
        (["--host", "203.0.113.9"], "cannot listen"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_ends_with_2(place, arguments, says):
    done = subprocess.run(
        [ENCORE, "ui", "--config", str(place.file), "--port", "0", *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
