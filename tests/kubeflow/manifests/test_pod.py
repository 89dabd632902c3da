"""The gateway's containers as they are deployed: arguments, probes, signals, a read-only root.

Real processes, a real SavedModel, and the probes and signals that a kubelet sends.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll
from tfx_encore.schemas.release import Certificate

# Two workers load TensorFlow: a minute on two cores.
pytestmark = [pytest.mark.slow, pytest.mark.service("npm")]

RELEASES = "var/lib/encore/releases"
Object = dict[str, Any]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@dataclass
class Pod:
    """The gateway's pod of an overlay."""

    spec: Object
    folder: Path
    ports: dict[str, int]
    process: subprocess.Popen[bytes]
    seen: list[float] = field(default_factory=list)

    @property
    def container(self) -> Object:
        (found,) = self.spec["containers"]
        return dict(found)

    @property
    def releases(self) -> Path:
        return self.folder / RELEASES

    def probe(self, name: str) -> int:
        """The status that a probe sees; 0 if nobody listens."""
        get = self.container[name]["httpGet"]
        url = f"http://127.0.0.1:{self.ports[get['port']]}{get['path']}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def predict(self, *rows: int, signature: str = "serving_default") -> Any:
        body = json.dumps({"signature_name": signature, "instances": list(rows)}).encode()
        url = f"http://127.0.0.1:{self.ports['rest']}/v1/models/taxi:predict"
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=120) as answer:
            return json.loads(answer.read())["predictions"]

    def log(self) -> str:
        return (self.folder / "log").read_text()


def save(folder: Path) -> None:
    """Version 1: `x * 2`, and a signature that takes seconds."""
    import tensorflow as tf

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="x")])
        def serve(self, x: Any) -> Any:
            return {"y": x * 2}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="x")])
        def slow(self, x: Any) -> Any:
            start = (tf.constant(0, tf.int64), tf.constant(0, tf.int64))
            turns = tf.while_loop(lambda i, _: i < x[0], lambda i, s: (i + 1, s + 1), start)[1]
            return {"y": x * 0 + turns}

    model = Model()
    signatures = {"serving_default": model.serve, "slow": model.slow}
    tf.saved_model.save(model, str(folder), signatures=signatures)


def push(root: Path, saved_model: Path) -> None:
    certificate = Certificate("serving_default", True, True, 256, "integers", ("x",))
    ReleaseDirectory(root, "taxi").push(PushRequest(saved_model, certificate=certificate))


def content(root: Path) -> dict[str, bytes]:
    """Every file below a folder, but for acknowledgements."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "acknowledgements" not in path.parts
    }


@pytest.fixture(scope="module")
def started(
    build: Any, find: Any, pod: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pod]:
    """The gateway of the production overlay without its Redis: init container, then container."""
    objects = build("monitoring", "hpa")
    folder = Path(str(tmp_path_factory.mktemp("pod")))
    spec = find(objects, "Deployment", "encore-gateway")["spec"]["template"]["spec"]
    (container,), (first,) = spec["containers"], spec["initContainers"]
    (folder / RELEASES).mkdir(parents=True)
    command = [pod.mapped(arg, folder) for arg in pod.expanded(first, {"MODEL": "taxi"})]
    subprocess.run(command, check=True)
    # As the kubelet: what the init container made is there before the subPath is mounted.
    assert [p.name for p in (folder / RELEASES / "taxi/journal").iterdir()] == ["acknowledgements"]
    pod.lay_out(objects, spec, container, folder)
    save(folder / "model")
    push(folder / RELEASES, folder / "model")
    draft = RecordDraft("taxi", Cause.MANUAL, SelectAll(), "by hand", "ada")
    JournalLedger(folder / RELEASES).append(draft)
    ports = dict(zip(("rest", "grpc"), free_ports(2), strict=True))
    numbers = {p["containerPort"]: ports[p["name"]] for p in container["ports"]}
    args = [pod.mapped(arg, folder) for arg in pod.expanded(container, {"MODEL": "taxi"})]
    for inside, outside in numbers.items():
        args = [arg.replace(f"port={inside}", f"port={outside}") for arg in args]
    environment = pod.environment(container, folder)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            pod.sealed(pod.encore(args), container, folder),
            stdout=log,
            stderr=log,
            env=environment,
            cwd="/",
        )
    found = Pod(spec, folder, ports, process)
    try:
        yield found
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def running(started: Pod) -> Pod:
    """The same once its startup probe has succeeded."""
    probe = started.container["startupProbe"]
    # A machine that does much else at once is given more time than a pod.
    end = time.monotonic() + 2 * probe["periodSeconds"] * probe["failureThreshold"]
    while started.probe("startupProbe") != 200:
        assert started.process.poll() is None, started.log()
        assert time.monotonic() < end, started.log()
        time.sleep(0.2)
    return started


def test_it_starts_and_every_probe_succeeds_once_it_answers(running: Pod) -> None:
    assert running.predict(3, 4) == [6, 8]
    probes = ("startupProbe", "readinessProbe", "livenessProbe")
    assert {name: running.probe(name) for name in probes} == dict.fromkeys(probes, 200)


def test_it_writes_among_the_releases_nothing_but_acknowledgements(running: Pod) -> None:
    before = content(running.releases)
    ledger = JournalLedger(running.releases)
    (record,) = ledger.records("taxi")
    end = time.monotonic() + 60
    while not (acks := ledger.acknowledgements("taxi")):
        assert time.monotonic() < end, running.log()
        time.sleep(0.1)
    assert {ack.sequence for ack in acks} == {record.sequence}
    assert content(running.releases) == before
    assert "error" not in running.log().lower()


def test_where_the_kernel_allows_it_nothing_else_can_be_written(running: Pod, pod: Any) -> None:
    if not pod.can_seal():
        assert "unshare" not in " ".join(running.process.args)  # type: ignore[arg-type]
        return
    root = Path(f"/proc/{running.process.pid}/root")
    writable = [running.folder / "var/cache/encore", running.folder / "var/lib/encore/requests"]
    mounts = Path(f"/proc/{running.process.pid}/mountinfo").read_text()
    how = {line.split()[4]: line.split()[5].split(",")[0] for line in mounts.splitlines()}
    assert how["/"] == "ro"
    assert how[str(running.releases)] == "ro"
    assert how[str(running.releases / "taxi/journal/acknowledgements")] == "rw"
    assert [how[str(path)] for path in writable] == ["rw", "rw"]
    assert root.exists()


def test_the_page_of_metrics_is_where_the_service_monitor_looks(
    running: Pod, build: Any, find: Any, until: Callable[..., Any]
) -> None:
    (endpoint,) = find(build("monitoring"), "ServiceMonitor", "encore-gateway")["spec"]["endpoints"]
    url = f"http://127.0.0.1:{running.ports[endpoint['port']]}{endpoint['path']}"

    def page() -> str:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return str(answer.read().decode())

    # One worker answers as soon as it can; the other may still be loading.
    until(lambda: "\nencore_workers 2.0\n" in page(), 120)
    assert "\nencore_worker_cpu_seconds_total " in page()


def test_grpc_health_answers_on_its_port(running: Pod) -> None:
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{running.ports['grpc']}") as channel:
        answer = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=30)
    assert answer == b"\x08\x01"  # HealthCheckResponse.status = SERVING


# The last one: it ends the gateway.
def test_told_to_end_it_goes_on_answering_then_finishes_what_is_under_way_in_time(
    running: Pod, until: Callable[..., Any]
) -> None:
    grace = running.spec["terminationGracePeriodSeconds"]
    turns, answers = _turns_of(running, seconds=3.0), []
    began = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    until(lambda: running.probe("readinessProbe") == 503, 10)
    # Whoever still has it on its list of endpoints is answered as before.
    assert running.predict(5) == [10]
    assert running.probe("livenessProbe") == 200
    slow = threading.Thread(
        target=lambda: answers.append(running.predict(turns, signature="slow")), daemon=True
    )
    time.sleep(max(0.0, 8.5 - (time.monotonic() - began)))
    slow.start()  # begun before the listeners close, at 10 s, and not done by then
    assert running.process.wait(timeout=grace) == 0, running.log()
    slow.join(5)
    assert answers == [[turns]]
    assert "drained" in running.log()


def _turns_of(pod: Pod, seconds: float) -> int:
    """Turns of the slow signature that take so long here and now."""
    turns = 20_000
    while True:
        begun = time.monotonic()
        pod.predict(turns, signature="slow")
        took = time.monotonic() - begun
        if took > seconds / 4:
            return int(turns * seconds / took)
        turns *= 3


@pytest.fixture
def until() -> Callable[..., Any]:
    """Waits until something holds."""

    def wait(what: Callable[[], Any], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "it did not come to hold"
            time.sleep(0.05)

    return wait
