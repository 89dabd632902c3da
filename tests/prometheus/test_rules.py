"""The rules by promtool: each alert fires when it should, and only then."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tfx_encore.pipeline.monitor_files import packaged_files, write_files

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring/prometheus/rules"
RUNBOOKS = ROOT / "docs/runbooks"
TESTS = Path(__file__).parent / "rules"
FILES = ("gateway", "nights")
# `days` holds those that take days, evaluated every 5 minutes.
TEST_FILES = ("gateway", "nights", "days")


def rules_of(file: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


ALERTS = [rule for name in FILES for rule in rules_of(RULES / f"{name}.yaml") if "alert" in rule]
NAMES = [alert["alert"] for alert in ALERTS]


def promtool(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *args], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


def run_tests(folder: Path) -> subprocess.CompletedProcess[str]:
    for name in TEST_FILES:
        shutil.copy(TESTS / f"{name}.test.yaml", folder)
    return promtool("test", "rules", *(f"{name}.test.yaml" for name in TEST_FILES), cwd=folder)


@pytest.mark.service("promtool")
def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    for name in FILES:
        shutil.copy(RULES / f"{name}.yaml", tmp_path)
    run = run_tests(tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.slow
@pytest.mark.service("promtool")
@pytest.mark.parametrize("expression", ["vector(0) > 1", "vector(1)"])
def test_an_alert_that_never_or_always_fires_is_noticed(expression: str, tmp_path: Path) -> None:
    for name in FILES:
        document = yaml.safe_load((RULES / f"{name}.yaml").read_text())
        for group in document["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    rule["expr"] = expression
                    rule.pop("for", None)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document))
    run = run_tests(tmp_path)
    assert run.returncode != 0
    blamed = set(re.findall(r'alertname="(\w+)"', run.stdout + run.stderr))
    assert blamed == set(NAMES)


def test_each_alert_is_tested_both_ways() -> None:
    fires, silent = set(), set()
    for name in TEST_FILES:
        for test in yaml.safe_load((TESTS / f"{name}.test.yaml").read_text())["tests"]:
            about = test["name"].partition(":")[0]
            expected = [check["exp_samples"] for check in test["promql_expr_test"]]
            (fires if any(expected) else silent).add(about)
    assert fires == silent == set(NAMES)


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_an_alert_says_how_urgent_it_is_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"page", "ticket", "info"}
    notes = alert["annotations"]
    assert {"summary", "description", "runbook_url"} == set(notes)
    assert notes["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"
    runbook = (RUNBOOKS / f"{alert['alert']}.md").read_text()
    assert runbook.startswith(f"# {alert['alert']}\n")
    assert re.findall(r"^## (.+)$", runbook, re.MULTILINE) == [
        "What it means",
        "How to look",
        "How to mend",
    ]
    assert f"Severity: {alert['labels']['severity']}." in runbook


def test_the_docs_list_every_alert_under_its_severity() -> None:
    text = (ROOT / "docs/monitoring.md").read_text()
    rows = re.findall(r"^\| (page|ticket|info) \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    listed = {name: severity for severity, names in rows for name in names.strip().split(", ")}
    assert listed == {alert["alert"]: alert["labels"]["severity"] for alert in ALERTS}


def test_every_runbook_belongs_to_an_alert() -> None:
    assert {file.stem for file in RUNBOOKS.glob("*.md")} - {"README"} == set(NAMES)


def test_the_commands_of_runbooks_exist() -> None:
    from tfx_encore.pipeline.cli import COMMANDS

    for file in RUNBOOKS.glob("*.md"):
        used = set(re.findall(r"\bencore ([a-z]+)\b", " ".join(_code(file.read_text()))))
        assert used <= set(COMMANDS), file.name


def _code(text: str) -> list[str]:
    return re.findall(r"```.*?```|`[^`]+`", text, re.DOTALL)


def test_rules_ask_only_for_metrics_that_exist() -> None:
    from tfx_encore.gateway.metrics_families import ENCORE
    from tfx_encore.monitoring.metric_families import EVERYTHING

    known = {family.name for family in (*ENCORE, *EVERYTHING)}
    known |= {f"{name}_bucket" for name in known}
    for name in FILES:
        for rule in rules_of(RULES / f"{name}.yaml"):
            asked = set(re.findall(r"(?<![:\w])encore_\w+", rule["expr"]))
            assert asked <= known, rule


@pytest.mark.service("promtool")
def test_rules_and_the_example_of_a_configuration_are_valid(tmp_path: Path) -> None:
    write_files(tmp_path)
    run = promtool("check", "config", "prometheus/prometheus.yaml", cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 rule files found" in run.stdout


@pytest.mark.service("amtool")
def test_the_example_for_alertmanager_is_valid_and_pages_pages(tmp_path: Path) -> None:
    write_files(tmp_path)
    file = tmp_path / "prometheus/alertmanager.yaml"
    for severity, receiver in (("page", "on-call"), ("ticket", "tickets"), ("info", "nobody")):
        run = subprocess.run(
            ["amtool", "config", "routes", "test", f"--config.file={file}", f"severity={severity}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (run.returncode, run.stdout.strip()) == (0, receiver), run.stderr


def test_the_files_are_written_with_links_to_where_the_runbooks_are(tmp_path: Path) -> None:
    written = write_files(tmp_path, "https://wiki.example.com/runbooks/")
    assert {file.relative_to(tmp_path) for file in written} == {p for p, _ in packaged_files()}
    for rule in rules_of(tmp_path / "prometheus/rules/nights.yaml"):
        link = rule["annotations"]["runbook_url"]
        assert link == f"https://wiki.example.com/runbooks/{rule['alert']}.md"
