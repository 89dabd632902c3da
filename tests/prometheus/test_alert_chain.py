"""The whole chain with real programs: broken, the alert arrives; mended, it is resolved."""

from __future__ import annotations

import json
import signal
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tfx_encore.metadata.night_store import NightStore
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.monitoring.exporters import deliver
from tfx_encore.monitoring.run_metrics import RunFacts, run_samples
from tfx_encore.pipeline.monitor_files import write_files
from tfx_encore.schemas.metrics_policy import MetricsPolicy
from tfx_encore.schemas.nights import day_before

# How full the disk of this machine is, is not for this test to say.
OTHERS = {"EncoreDiskFilling"}


def hastened(rules: Path) -> tuple[Path, ...]:
    """The rules with every `for` cut to a second; what they ask stays as it is."""
    for file in rules.glob("*.yaml"):
        document = yaml.safe_load(file.read_text())
        for group in document["groups"]:
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = "1s"
        file.write_text(yaml.safe_dump(document))
    return tuple(sorted(rules.glob("*.yaml")))


def hastened_routes(file: Path, webhook: str) -> Path:
    """The example for Alertmanager with short waits, and all receivers in one place."""
    document = yaml.safe_load(file.read_text())
    document["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    for receiver in document["receivers"]:
        for hook in receiver.get("webhook_configs", ()):
            hook["url"] = webhook
    file.write_text(yaml.safe_dump(document))
    return file


@pytest.fixture
def releases(tmp_path: Path) -> ReleaseDirectory:
    """One version of a model, live."""
    import tensorflow as tf

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def serve(self, x: Any) -> Any:
            return {"y": x * 2}

    model = Model()
    signatures = {"serving_default": model.serve}
    tf.saved_model.save(model, str(tmp_path / "model"), signatures=signatures)
    directory = ReleaseDirectory(tmp_path / "releases", "taxi")
    directory.push(PushRequest(tmp_path / "model"))
    return directory


@pytest.fixture
def start_gateway(programs: Any, releases: ReleaseDirectory, free_port: Callable[[], int]) -> Any:
    """Starts `encore serve` on a port known beforehand; returns the process."""
    port = free_port()

    def start() -> Any:
        return programs.start(
            *(sys.executable, "-m", "tfx_encore.pipeline.cli", "serve", "--host=127.0.0.1"),
            *(f"--releases={releases.path.parent}", f"--rest_api_port={port}", "--port=0"),
        )

    start.address = f"127.0.0.1:{port}"  # type: ignore[attr-defined]
    return start


def ask(address: str, *values: float) -> None:
    body = json.dumps({"instances": list(values)}).encode()
    request = urllib.request.Request(f"http://{address}/v1/models/taxi:predict", body)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.service("prometheus", "prometheus-alertmanager", "prometheus-pushgateway")
def test_what_is_broken_arrives_at_the_webhook_and_what_is_mended_is_resolved(
    tmp_path: Path,
    story: Any,
    yesterday: str,
    releases: ReleaseDirectory,
    programs: Any,
    webhook: Any,
    until: Callable[..., Any],
    free_port: Callable[[], int],
    start_gateway: Any,
    start_monitor: Callable[..., str],
    start_prometheus: Callable[..., Any],
) -> None:
    root = releases.path.parent
    store = NightStore(root, "taxi")
    for back in (2, 1, 0):
        story.commit(store, story.story_of(20 - back, day_before(yesterday, back)))

    # All programs at once, for the gateway takes longest.
    gateway = start_gateway()
    pushes, alerts = (f"127.0.0.1:{free_port()}" for _ in range(2))
    pushgateway = programs.start("prometheus-pushgateway", f"--web.listen-address={pushes}")
    write_files(tmp_path / "files")
    routes = hastened_routes(tmp_path / "files/prometheus/alertmanager.yaml", webhook.url)
    alertmanager = programs.start(
        "prometheus-alertmanager",
        f"--config.file={routes}",
        f"--storage.path={tmp_path / 'alertmanager'}",
        f"--web.listen-address={alerts}",
        "--cluster.listen-address=",
    )
    monitor = start_monitor("--releases", str(root))
    programs.ready(pushgateway, f"http://{pushes}/-/ready")
    programs.ready(alertmanager, f"http://{alerts}/-/ready")
    programs.ready(gateway, f"http://{start_gateway.address}/readyz", 120)
    prometheus = start_prometheus(
        {
            "encore-gateway": [start_gateway.address],
            "encore-monitor": [monitor],
            "pushgateway": [pushes],
        },
        hastened(tmp_path / "files/prometheus/rules"),
        alerts,
    )
    policy = MetricsPolicy(pushgateway=f"http://{pushes}")

    def run_ended(state: str) -> None:
        samples = run_samples(RunFacts("taxi", state, time.time(), 2, version=1))
        assert deliver(policy, tmp_path, "run", "taxi", samples) == ()

    # All is well.
    run_ended("pushed")
    until(lambda: prometheus.query("encore_night_trend_alarm"))
    until(lambda: prometheus.query('encore_run_state{state="pushed"} == 1'))
    until(
        lambda: (
            ask(start_gateway.address, 1.0, 2.0)
            or prometheus.query('model:encore_rows_hit:ratio_rate5m{model="taxi"} > 0')
        )
    )
    # A machine under load may miss a scrape; that has passed before anything is broken.
    until(lambda: prometheus.alerts().keys() <= OTHERS and webhook.firing() <= OTHERS)

    # Broken: a slice decays, a release is refused, the gateway hangs.
    story.commit(store, story.Story(59, yesterday, alarm=True), revision=2)
    run_ended("refused")
    gateway.send_signal(signal.SIGSTOP)
    decay = until(lambda: webhook.has("EncoreSliceDecay", "firing"))
    assert decay["labels"]["slice"] == "company=Sun Taxi"
    assert decay["labels"]["severity"] == "ticket"
    said = "recall of taxi decays slowly on company=Sun Taxi."
    assert decay["annotations"]["summary"] == said
    assert decay["annotations"]["runbook_url"] == "docs/runbooks/EncoreSliceDecay.md"
    refused = until(lambda: webhook.has("EncoreReleaseNotPushed", "firing"))
    assert refused["labels"]["state"] == "refused"
    down = until(lambda: webhook.has("EncoreGatewayDown", "firing"))
    assert down["labels"]["instance"] == start_gateway.address

    # Mended.
    gateway.send_signal(signal.SIGCONT)
    story.commit(store, story.Story(20, yesterday), revision=3)
    run_ended("pushed")
    until(lambda: webhook.has("EncoreSliceDecay", "resolved"))
    until(lambda: webhook.has("EncoreReleaseNotPushed", "resolved"))
    until(lambda: webhook.has("EncoreGatewayDown", "resolved"))
    ask(start_gateway.address, 1.0)
    until(lambda: prometheus.alerts().keys() <= OTHERS and webhook.firing() <= OTHERS)


@pytest.mark.service("prometheus-pushgateway")
def test_metrics_that_are_pushed_replace_those_before(
    programs: Any, free_port: Callable[[], int], get: Callable[..., str], tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    process = programs.start("prometheus-pushgateway", f"--web.listen-address={address}")
    programs.ready(process, f"http://{address}/-/ready")
    policy = MetricsPolicy(pushgateway=f"http://{address}")
    for span, version in ((1, 1), (2, None)):
        samples = run_samples(RunFacts("taxi", "pushed", 5.0, span, version=version))
        assert deliver(policy, tmp_path, "run", "taxi", samples) == ()
    page = get(f"http://{address}/metrics")
    assert 'encore_run_span{instance="",job="encore_run",model="taxi"} 2' in page
    assert "encore_run_version" not in page
