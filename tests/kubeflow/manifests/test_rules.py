"""Rules and dashboards in the cluster are the ones that are tested elsewhere."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tfx_encore.kubeflow.prometheus_rule import TARGET, content
from tfx_encore.monitoring.grafana.build import FOLDER

ROOT = Path(__file__).parents[3]


def test_the_rule_in_the_manifests_is_made_of_the_rule_files() -> None:
    """If not: `python -m tfx_encore.kubeflow.prometheus_rule`."""
    assert TARGET.read_text() == content()


@pytest.mark.service("promtool", "npm")
def test_promtool_takes_the_groups_as_they_are_built(build: Any, find: Any, tmp_path: Path) -> None:
    rule = find(build("monitoring"), "PrometheusRule", "encore")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": rule["spec"]["groups"]}))
    done = subprocess.run(
        ["promtool", "check", "rules", "rules.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = sorted((ROOT / "monitoring/prometheus/rules").glob("*.yaml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    assert rule["spec"]["groups"] == groups


@pytest.mark.service("npm")
def test_every_dashboard_is_a_configmap_that_the_sidecar_finds(build: Any) -> None:
    maps = [
        each
        for each in build("monitoring")
        if each["kind"] == "ConfigMap"
        and each["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
    ]
    found = {name: json.loads(text) for each in maps for name, text in each["data"].items()}
    assert found == {file.name: json.loads(file.read_text()) for file in FOLDER.glob("*.json")}
    assert len(maps) == len(found) == 4
    assert max(len(text) for each in maps for text in each["data"].values()) < 2**20
