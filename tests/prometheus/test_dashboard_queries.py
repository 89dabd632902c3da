"""Every panel, annotation and variable of the dashboards, asked of a real Prometheus with data."""

from __future__ import annotations

import itertools
import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tfx_encore.cache.breaker import BreakerState
from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.metrics import GatewayMetrics, ModelCacheStats, TierStats
from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.metadata.night_store import NightStore
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.monitoring.grafana.build import FOLDER
from tfx_encore.pipeline.monitor_files import write_files
from tfx_encore.schemas.nights import day_before
from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll

DASHBOARDS = {file.stem: json.loads(file.read_text()) for file in FOLDER.glob("*.json")}
REPLACED = {"$__rate_interval": "10s", "$model": "taxi"}


def use(metrics: GatewayMetrics) -> None:
    """A moment of a gateway in which everything happens."""
    for cache, code in itertools.product(("hit", "miss"), (Code.OK, Code.UNAVAILABLE)):
        metrics.request(
            protocol="rest", method="Predict", model="taxi", version=3,
            signature="serving_default", code=code, seconds=0.001, status=cache,
        )  # fmt: skip
    metrics.rows("taxi", 2, 3)
    metrics.batch("taxi", "serving_default", rows=3, padded=1, seconds=0.01)
    metrics.queued("taxi", 5)
    metrics.logged("taxi", 3, 1)
    cache = metrics.cache("taxi")
    cache.hit("memory", "raw")
    cache.missed(4)
    cache.computed(3, 0.25)
    cache.evicted("memory", 2)
    cache.tier_failed("redis", OSError())


@pytest.fixture
def gateway() -> Iterator[str]:
    """The metrics of a gateway, counted on with each look; its address."""
    stats = ModelCacheStats("taxi", [TierStats("memory", 1000, {"sha256:a": 3})], True, 1, 0.5)
    metrics = GatewayMetrics(probe=lambda: [stats])
    metrics.version_state("taxi", 3, "AVAILABLE", "")
    metrics.switched("taxi", "stable", 3)
    metrics.cache("taxi").breaker_moved("redis", BreakerState.OPEN)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            use(metrics)
            content_type, body = metrics.render()
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def releases(tmp_path: Path, story: Any, yesterday: str) -> Path:
    """A version, a record that was acknowledged, one that was not, and nights with an alarm."""
    from tfx_encore.metadata.release_push import PushRequest

    model = tmp_path / "model"
    model.mkdir()
    (model / "saved_model.pb").write_bytes(b"a graph")
    root = tmp_path / "releases"
    directory = ReleaseDirectory(root, "taxi")
    directory.push(PushRequest(model))
    ledger = JournalLedger(root)
    for _ in range(2):
        record = ledger.append(RecordDraft("taxi", Cause.MANUAL, SelectAll(), "test", "test"))
    ledger.acknowledge(ledger.records("taxi")[0], "gateway@here")
    assert record.sequence == 2
    store = NightStore(root, "taxi")
    story.commit(store, story.Story(58, day_before(yesterday), alarm=True))
    story.commit(store, story.Story(59, yesterday, incident=True, alarm=True, disagreeing=2))
    return root


def substituted(expression: str) -> str:
    for name, value in REPLACED.items():
        expression = expression.replace(name, value)
    return re.sub(r"\$(slice|metric|gate|feature|measure)\b", ".*", expression)


def expressions() -> Iterator[tuple[str, str]]:
    """Where, and what is asked."""
    for name, board in sorted(DASHBOARDS.items()):
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                where = f"{name}: {panel['title']} {target['refId']}"
                yield where, substituted(target["expr"])
        for event in board["annotations"]["list"]:
            yield f"{name}: {event['name']}", substituted(event["expr"])
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
                assert asked, variable
                selector, label = substituted(asked[1]), asked[2]
                yield f"{name}: ${variable['name']}", f"count by ({label}) ({selector})"


@pytest.mark.service("prometheus")
def test_everything_that_a_dashboard_asks_has_an_answer(
    gateway: str,
    releases: Path,
    tmp_path: Path,
    start_monitor: Callable[..., str],
    start_prometheus: Callable[..., Any],
    until: Callable[..., Any],
) -> None:
    monitor = start_monitor("--releases", str(releases))
    write_files(tmp_path / "files")
    rules = tuple((tmp_path / "files/prometheus/rules").glob("*.yaml"))
    targets = {"encore-gateway": [gateway], "encore-monitor": [monitor]}
    prometheus = start_prometheus(targets, rules)
    until(lambda: prometheus.query("rate(encore_requests_total[10s]) > 0"))
    until(lambda: prometheus.query("encore_night_outcome"))
    asked = list(expressions())
    assert len(asked) > 60
    empty = {where: text for where, text in asked if not _numbers(prometheus.query(text))}
    assert empty == {}
    # An annotation's value is a time in milliseconds: that of the push, a moment ago.
    (pushed,) = [text for where, text in asked if where == "encore-serving: Releases"]
    assert abs(_numbers(prometheus.query(pushed))[0] / 1000 - time.time()) < 600


def _numbers(result: list[dict[str, Any]]) -> list[float]:
    """The values that can be drawn."""
    values = [float(sample["value"][1]) for sample in result]
    return [value for value in values if math.isfinite(value)]


def test_every_label_that_a_legend_names_is_one_of_its_expression() -> None:
    for name, board in DASHBOARDS.items():
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                lists = " ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))
                kept = set(re.findall(r"\w+", lists))
                named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                assert named <= kept, f"{name}: {panel['title']}"


def test_dashboards_ask_only_for_metrics_that_exist() -> None:
    from tfx_encore.gateway.metrics_families import ENCORE
    from tfx_encore.monitoring.metric_families import EVERYTHING

    known = {family.name for family in (*ENCORE, *EVERYTHING)}
    for _, text in expressions():
        asked = {re.sub("_(bucket|sum)$", "", n) for n in re.findall(r"encore_\w+", text)}
        assert asked <= known, text
