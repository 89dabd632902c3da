"""Nights, a project, and real programs on free ports of loopback, all stopped in the end."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlencode

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="session")
def story(load_module: Callable[[Path], ModuleType]) -> ModuleType:
    """The module that makes nights."""
    return load_module(HERE / "nights_fixture.py")


def yesterday() -> str:
    """The last whole day."""
    return (dt.datetime.now(dt.timezone.utc).date() - dt.timedelta(days=1)).isoformat()


@pytest.fixture(scope="session", name="yesterday")
def yesterday_fixture() -> str:
    return yesterday()


@pytest.fixture
def project_file(tmp_path: Path) -> Path:
    """A project whose releases lie in its workspace."""
    (tmp_path / "encore.yaml").write_text(
        "model: taxi\n"
        "data: {spans: 'data/{SPAN}/*.csv', schema: taxi.pbtxt}\n"
        "training: {module: tfx_encore.pipeline.taxi.model}\n"
        "evaluation: {label_key: big_tipper}\n"
    )
    (tmp_path / ".encore" / "releases" / "taxi").mkdir(parents=True)
    return tmp_path / "encore.yaml"


def get(url: str, seconds: float = 10.0) -> str:
    with urllib.request.urlopen(url, timeout=seconds) as answer:
        return answer.read().decode()


def until(what: Callable[[], Any], seconds: float = 90.0) -> Any:
    """Waits until something holds, and returns it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.05)
    return found


@pytest.fixture(name="get")
def get_fixture() -> Callable[..., str]:
    return get


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Any]:
    return until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(name="free_port")
def free_port_fixture() -> Callable[[], int]:
    return free_port


class Programs:
    """Programs that run until the test ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Starts a program; what it says goes to a file."""
        log = self.folder / f"{len(self._running)}-{Path(command[0]).name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        process.log = log  # type: ignore[attr-defined]
        self._running.append(process)
        return process

    def ready(self, process: subprocess.Popen[bytes], url: str, seconds: float = 90.0) -> None:
        """Waits until a page can be had."""
        end = time.monotonic() + seconds
        while True:
            assert process.poll() is None, process.log.read_text()  # type: ignore[attr-defined]
            with contextlib.suppress(OSError):
                get(url)
                return
            assert time.monotonic() < end, process.log.read_text()  # type: ignore[attr-defined]
            time.sleep(0.05)

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Ends one of them, also one that a test has halted."""
        process.terminate()
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop_all(self) -> None:
        for process in reversed(self._running):
            self.stop(process)


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    folder = tmp_path / "programs"
    folder.mkdir()
    found = Programs(folder)
    yield found
    found.stop_all()


class Webhook:
    """What Alertmanager sends, kept."""

    def __init__(self) -> None:
        kept: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kept.extend(json.loads(body)["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.alerts = kept
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def has(self, name: str, status: str) -> dict[str, Any] | None:
        """The last alert of a name, if it is in this state."""
        found = [alert for alert in self.alerts if alert["labels"]["alertname"] == name]
        return found[-1] if found and found[-1]["status"] == status else None

    def firing(self) -> set[str]:
        """Names of the alerts that have not been resolved."""
        last = {json.dumps(alert["labels"], sort_keys=True): alert for alert in self.alerts}
        return {a["labels"]["alertname"] for a in last.values() if a["status"] == "firing"}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    found = Webhook()
    yield found
    found.close()


class Prometheus:
    """A real Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now."""
        page = get(f"{self.url}/api/v1/query?{urlencode({'query': expression})}")
        return json.loads(page)["data"]["result"]

    def alerts(self) -> dict[str, str]:
        """Alert -> state, of those that are pending or firing."""
        found = json.loads(get(f"{self.url}/api/v1/alerts"))["data"]["alerts"]
        return {alert["labels"]["alertname"]: alert["state"] for alert in found}


@pytest.fixture
def start_prometheus(programs: Programs) -> Callable[..., Prometheus]:
    """`start_prometheus({job: [address]}, rules=[file], alertmanager=address)`."""

    def start(
        targets: dict[str, list[str]],
        rules: tuple[Path, ...] = (),
        alertmanager: str | None = None,
    ) -> Prometheus:
        port = free_port()
        config = {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "rule_files": [str(file) for file in rules],
            "scrape_configs": [
                {
                    "job_name": job,
                    "honor_labels": job == "pushgateway",
                    "static_configs": [{"targets": addresses}],
                }
                for job, addresses in targets.items()
            ],
        }
        if alertmanager:
            config["alerting"] = {
                "alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]
            }
        file = programs.folder / "prometheus.yml"
        file.write_text(json.dumps(config))  # JSON is YAML
        process = programs.start(
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={programs.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        url = f"http://127.0.0.1:{port}"
        programs.ready(process, f"{url}/-/ready")
        return Prometheus(url)

    return start


@pytest.fixture
def start_monitor(programs: Programs) -> Callable[..., str]:
    """`start_monitor("--releases", folder)`: the command; returns its address."""

    def start(*args: str) -> str:
        process = programs.start(
            sys.executable, "-u", "-m", "tfx_encore.pipeline.cli", "monitor", "--port", "0", *args
        )
        log = process.log  # type: ignore[attr-defined]

        def said() -> str:
            assert process.poll() is None, log.read_text()
            return log.read_text().partition("metrics  ")[2].partition(";")[0]

        url = until(said)
        programs.ready(process, url)
        return url.removeprefix("http://").removesuffix("/metrics")

    return start
