"""Machines for tests: network namespaces with addresses of their own, and worker pools in them.

A namespace has nothing but its own loopback and one cable to the driver's side. `WHERE` names it in
the environment of everything that runs in it.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

WHERE = "ENCORE_TEST_MACHINE"
PORT = 50_000
_START_SECONDS = 180.0
_numbers = itertools.count()  # no two machines of a process are alike


@dataclass(frozen=True)
class Machine:
    """A network namespace.

    Attributes:
        name: of the namespace.
        address: its own.
        driver: the address of this side of the cable.
    """

    name: str
    address: str
    driver: str

    def command(self, *words: str) -> list[str]:
        """A command as it is run on the machine."""
        return ["ip", "netns", "exec", self.name, *words]

    def unplug(self) -> None:
        """Cuts the cable: nothing is closed, nothing answers any more."""
        for line in _ip("-n", self.name, "-o", "link", "show").splitlines():
            name = line.split(": ")[1].split("@")[0]
            if name != "lo":
                _ip("-n", self.name, "link", "set", name, "down")


@dataclass
class Pool:
    """A Beam worker pool on a machine.

    Attributes:
        machine: where.
        process: the pool; its workers are its children.
        log: what it said.
    """

    machine: Machine
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def address(self) -> str:
        """As `--environment_config` names it."""
        return f"{self.machine.address}:{PORT}"

    def kill(self) -> None:
        """Ends the pool and its workers at once, as a machine that loses its power."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """Makes namespaces, each on a cable of its own, and removes them afterwards."""
    made: list[Machine] = []
    try:
        made.extend(_machine(next(_numbers)) for _ in range(count))
        yield made
    finally:
        for machine in made:
            _ip("netns", "del", machine.name, check=False)


@contextmanager
def pools(on: list[Machine], folder: Path, *, watched: bool = False) -> Iterator[list[Pool]]:
    """Starts a worker pool on each machine, with this checkout's environment.

    Args:
        on: the machines.
        folder: for logs.
        watched: `pool_main.py`, which writes `<machine>.steps`; else Beam's own, whose workers are
            processes.
    """
    started: list[Pool] = []
    try:
        started.extend(_pool(machine, folder, watched) for machine in on)
        for pool in started:
            _wait(pool)
        yield started
    finally:
        for pool in started:
            pool.kill()


def can_make() -> str:
    """Why no namespace can be made here; "" if one can."""
    name = f"encore-try-{os.getpid()}"
    try:
        tried = subprocess.run(
            ["ip", "netns", "add", name], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return "ip is not installed (apt install iproute2)"
    if tried.returncode:
        return f"ip netns add: {tried.stderr.strip()}"
    _ip("netns", "del", name)
    return ""


def _machine(number: int) -> Machine:
    name, subnet = f"encore-{os.getpid()}-{number}", f"10.{190 + number % 60}.{os.getpid() % 250}"
    machine = Machine(name, f"{subnet}.2", f"{subnet}.1")
    here, there = (f"enc{os.getpid()}{end}{number}"[-15:] for end in "ht")
    _ip("netns", "add", name)
    _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
    _ip("addr", "add", f"{machine.driver}/30", "dev", here)
    _ip("link", "set", here, "up")
    _ip("-n", name, "addr", "add", f"{machine.address}/30", "dev", there)
    _ip("-n", name, "link", "set", there, "up")
    _ip("-n", name, "link", "set", "lo", "up")
    # Workers call back to the one address of the driver, whichever cable they are on.
    _ip("-n", name, "route", "add", "default", "via", machine.driver)
    return machine


def _pool(machine: Machine, folder: Path, watched: bool) -> Pool:
    log = folder / f"{machine.name}.log"
    here = Path(sys.executable).parent
    # The pool starts its workers as `python`.
    environment = {
        **os.environ,
        WHERE: machine.name,
        "PATH": f"{here}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    module = "apache_beam.runners.worker.worker_pool_main"
    words = ["-m", module, f"--service_port={PORT}"]
    if watched:
        script = Path(__file__).parent / "pool_main.py"
        words = [str(script), str(PORT), str(folder / f"{machine.name}.steps")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            machine.command(sys.executable, *words),
            stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
            cwd=folder,
        )  # fmt: skip
    return Pool(machine, process, log)


def _wait(pool: Pool) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        assert pool.process.poll() is None, pool.log.read_text()
        try:
            socket.create_connection((pool.machine.address, PORT), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{pool.address} does not answer: {pool.log.read_text()}")


def _ip(*words: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout
