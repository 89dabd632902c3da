"""What the autoscalers ask, asked of a real Prometheus that scrapes the gateway's own page."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tfx_encore.gateway.metrics import GatewayMetrics

ROOT = Path(__file__).parents[3]
ADAPTER = ROOT / "kubeflow/components/hpa/prometheus-adapter.yaml"

pytestmark = pytest.mark.service("npm", "prometheus")

# Cores that the workers of each pod use.
BUSY = {"encore-gateway-a": 1.0, "encore-gateway-b": 0.2}
WORKERS = 2


class Pods:
    """The metrics pages of two gateways with two workers each, and of an ingress."""

    def __init__(self) -> None:
        begun = time.monotonic()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                body = _page(name, time.monotonic() - begun)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _page(name: str, seconds: float) -> bytes:
    if name == "ingress":
        labels = 'exported_namespace="encore",exported_service="encore-gateway"'
        return f"nginx_ingress_controller_requests{{{labels}}} {7 * seconds}\n".encode()
    each = BUSY[name] * seconds
    workers = [GatewayMetrics(cpu_clock=lambda: each) for _ in range(WORKERS)]
    workers[0].merge([worker.state() for worker in workers[1:]])
    return workers[0].render()[1]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[Any]]]:
    """Asks a Prometheus that has scraped for a while, with the labels that the operator adds."""
    folder, pods = Path(str(tmp_path_factory.mktemp("prometheus"))), Pods()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    jobs = [
        _job("encore-gateway", pods.address, name, {"namespace": "encore", "pod": name})
        for name in BUSY
    ]
    jobs.append(_job("ingress", pods.address, "ingress", {}))
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            cwd=folder,
            stdout=log,
            stderr=log,
        )

    def query(expression: str) -> list[Any]:
        # Rates over a minute need a minute; what is asked stays as it is.
        expression = expression.replace("[1m]", "[6s]")
        url = f"http://127.0.0.1:{port}/api/v1/query?{urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return list(json.loads(answer.read())["data"]["result"])

    try:
        end = time.monotonic() + 90
        while not _has_seen_enough(query):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.5)
        yield query
    finally:
        process.kill()
        process.wait()
        pods.close()


def _job(job: str, address: str, path: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "job_name": f"{job}/{path}",
        "metrics_path": f"/{path}",
        "static_configs": [{"targets": [address], "labels": {"job": job, **labels}}],
    }


def _has_seen_enough(query: Callable[[str], list[Any]]) -> bool:
    try:
        found = query("min(count_over_time(encore_worker_cpu_seconds_total[20s])) >= 10")
    except OSError:
        return False
    return bool(found)


def rendered(text: str) -> str:
    """The adapter's template, filled in as it does for all pods of a namespace."""
    values = {
        "Series": "encore_worker_cpu_seconds_total",
        "LabelMatchers": f'namespace="encore",pod=~"{"|".join(BUSY)}"',
        "GroupBy": "pod",
    }
    filled = re.sub(r"<<\.(\w+)>>", lambda found: values[found[1]], text)
    assert "<<" not in filled
    return filled


def test_the_hpas_metric_is_how_busy_each_pods_workers_are(
    ask: Callable[[str], list[Any]], build: Any, find: Any
) -> None:
    (rule,) = yaml.safe_load(ADAPTER.read_text())["rules"]["custom"]
    assert ask(rule["seriesQuery"])
    found = ask(rendered(rule["metricsQuery"]))
    busy = {each["metric"]["pod"]: float(each["value"][1]) for each in found}
    assert busy == pytest.approx(BUSY, abs=0.1)
    (metric,) = find(build("hpa"), "HorizontalPodAutoscaler", "encore-gateway")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]


def triggers(build: Any, find: Any) -> dict[str, dict[str, str]]:
    scaled = find(build("keda"), "ScaledObject", "encore-gateway")
    return {each["name"]: each["metadata"] for each in scaled["spec"]["triggers"]}


def test_kedas_query_wants_as_many_pods_as_keep_each_busy_to_its_threshold(
    ask: Callable[[str], list[Any]], build: Any, find: Any
) -> None:
    busy = triggers(build, find)["busy"]
    (found,) = ask(busy["query"])
    total = float(found["value"][1])
    assert total == pytest.approx(sum(BUSY.values()), abs=0.2)
    assert total / float(busy["threshold"]) == pytest.approx(2.0, abs=0.4)  # pods


def test_what_the_ingress_sees_wakes_the_first_pod_and_does_not_multiply(
    ask: Callable[[str], list[Any]], build: Any, find: Any
) -> None:
    asked = triggers(build, find)["asked"]
    (found,) = ask(asked["query"])
    assert float(found["value"][1]) == pytest.approx(7, rel=0.2)
    assert float(found["value"][1]) > float(asked["activationThreshold"])
    assert float(found["value"][1]) / float(asked["threshold"]) < 0.1


def test_without_a_gateway_its_own_metric_is_empty_and_wakes_nobody(
    ask: Callable[[str], list[Any]], build: Any, find: Any
) -> None:
    """KEDA takes an empty answer for 0; so only what the ingress sees can wake the first."""
    busy = triggers(build, find)["busy"]
    assert ask(busy["query"].replace("encore-gateway", "gone")) == []


def test_both_are_never_deployed_together_and_name_the_namespace_that_is(
    build: Any, find: Any
) -> None:
    kinds = {each["kind"] for each in build("overlays/production")}
    assert "HorizontalPodAutoscaler" in kinds
    assert "ScaledObject" not in kinds
    scaled = find(build("keda"), "ScaledObject", "encore-gateway")
    for metadata in triggers(build, find).values():
        (named,) = set(re.findall(r'namespace="([^"]+)"', metadata["query"]))
        assert named == scaled["metadata"]["namespace"]
