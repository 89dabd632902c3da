"""`encore kubeflow submit`, against an API server that checks what it is sent."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from tfx_encore.kubeflow.server import Access, Server
from tfx_encore.schemas.errors import ConfigError, KubeflowError

SUCCEEDED = {"state": "SUCCEEDED"}


def _task(name: str, state: str) -> dict[str, str]:
    return {"display_name": name, "state": state}


def test_a_run_is_of_an_uploaded_version_with_the_values_that_were_given(
    server: Any, run_command: Any, files: Any, compiled: Any
) -> None:
    content, url = server
    done = run_command(
        "submit", "--package", files["release"], "--host", url, "--param", "span=2",
        "--set", "drift.thresholds.psi=0.3", "--run-name", "span two",
        "--pipeline-root", "s3://bucket/root", "--service-account", "pipeline-runner",
    )  # fmt: skip
    assert done.code == 0, done.err
    (run,) = content.runs.values()
    assert run["display_name"] == "span two"
    assert run["service_account"] == "pipeline-runner"
    assert run["runtime_config"]["pipeline_root"] == "s3://bucket/root"
    values = run["runtime_config"]["parameters"]
    assert set(values) == {"span", "drift"}
    assert values["span"] == 2
    assert json.loads(values["drift"])["thresholds"]["psi"] == 0.3
    (version,) = content.versions.values()
    assert version["pipeline_spec"]["pipeline_spec"] == compiled["release"].pipeline
    assert version["pipeline_spec"]["platform_spec"] == compiled["release"].platform
    assert (
        run["pipeline_version_reference"]["pipeline_version_id"] == (version["pipeline_version_id"])
    )
    assert f"{url}/#/runs/details/{run['run_id']}" in done.out


def test_the_same_content_is_uploaded_once_and_runs_share_one_experiment(
    server: Any, run_command: Any, files: Any
) -> None:
    content, url = server
    for name in ("one", "two"):
        done = run_command(
            "submit", "--package", files["nightly"], "--host", url, "--run-name", name,
            "--experiment", "nights",
        )  # fmt: skip
        assert done.code == 0, done.err
    assert len(content.runs) == 2
    assert len(content.pipelines) == len(content.versions) == len(content.experiments) == 1


def test_a_pipeline_is_found_though_others_come_first_on_other_pages(
    server: Any, run_command: Any, files: Any
) -> None:
    content, url = server
    other = {"pipeline_id": "1", "display_name": "other"}
    mine = {"pipeline_id": "2", "display_name": "taxi-nightly"}
    content.pipelines = {"1": other, "2": mine}
    assert run_command("submit", "--package", files["nightly"], "--host", url).code == 0
    assert [v["pipeline_id"] for v in content.versions.values()] == ["2"]


def test_what_is_not_given_stays_as_compiled(server: Any, run_command: Any, files: Any) -> None:
    content, url = server
    assert run_command("submit", "--package", files["nightly"], "--host", url).code == 0
    (run,) = content.runs.values()
    assert not run["runtime_config"].get("parameters")
    assert "pipeline_root" not in run["runtime_config"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "drift.thresholds.psi=-1"], "drift.thresholds.psi"),
        (["--set", "drift.thresholds.spi=0.3"], "did you mean"),
        (["--set", "training.train_steps=5"], "training: is fixed when the release pipeline"),
        (["--set", "evaluation.prediction_key=p"], "evaluation.prediction_key: is fixed"),
        (["--param", "span=two"], "'two' is no number"),
        (["--param", "spam=2"], "no parameter 'spam'"),
        (["--param", "span"], "not NAME=VALUE"),
        (["--param", 'drift={"thresholds": 7}'], "drift.thresholds"),
        (["--param", "drift=seven"], "not JSON"),
        (["--set", "drift.thresholds"], "not KEY=VALUE"),
        (["--host", "kubeflow.example"], "write https://kubeflow.example"),
    ],
)
def test_a_bad_value_is_refused_before_anything_is_sent(
    server: Any, run_command: Any, files: Any, arguments: list[str], message: str
) -> None:
    content, url = server
    done = run_command("submit", "--package", files["release"], "--host", url, *arguments)
    assert done.code == 2
    assert message in done.err
    assert content.requests == []


def test_the_token_is_sent_from_the_file_or_the_variable(
    server: Any, run_command: Any, files: Any, tmp_path: pathlib.Path, monkeypatch: Any
) -> None:
    content, url = server
    content.token = "correct horse"
    command = ["submit", "--package", files["nightly"], "--host", url]
    refused = run_command(*command)
    assert refused.code == 1
    assert "HTTP 401" in refused.err
    assert "--token-file FILE" in refused.err
    assert "user identity header" in refused.err, "what the server says is passed on"
    file = tmp_path / "token"
    file.write_text("correct horse\n")
    assert run_command(*command, "--token-file", str(file)).code == 0
    monkeypatch.setenv("ENCORE_KUBEFLOW_TOKEN", "correct horse")
    assert run_command(*command).code == 0
    monkeypatch.delenv("ENCORE_KUBEFLOW_TOKEN")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    assert run_command(*command).code == 0
    assert run_command(*command, "--token-file", str(tmp_path / "none")).code == 2


def test_a_namespace_of_a_multi_user_kubeflow_goes_with_every_question(
    server: Any, run_command: Any, files: Any, tmp_path: pathlib.Path
) -> None:
    content, url = server
    content.namespaces = {"team"}
    command = ["submit", "--package", files["nightly"], "--host", url]
    done = run_command(*command, "--namespace", "team")
    assert done.code == 0, done.err
    (pipeline,) = content.pipelines.values()
    assert pipeline["namespace"] == "team"
    refused = run_command(*command, "--namespace", "others")
    assert refused.code == 1
    assert "HTTP 403" in refused.err
    assert "--namespace" in refused.err


@pytest.mark.parametrize("status", [404, 409, 500, 503])
def test_an_error_of_the_server_says_what_was_tried_and_the_way_out(
    server: Any, run_command: Any, files: Any, status: int
) -> None:
    content, url = server
    content.fail_with = {"/experiments": status}
    done = run_command("submit", "--package", files["nightly"], "--host", url)
    assert done.code == 1
    assert f"{url} refused to list experiments: HTTP {status}: the server says so; " in done.err


def test_a_server_that_is_not_there_is_said_at_once() -> None:
    with pytest.raises(KubeflowError, match="is not reached") as told:
        Server(Access(host="http://127.0.0.1:1"))
    assert "check --host" in str(told.value)
    assert told.value.status is None


def test_an_authority_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such file"):
        Server(Access(host="https://127.0.0.1:1", ca_file="/none.pem"))


def test_waiting_tells_of_each_task_and_ends_with_the_run(
    server: Any, run_command: Any, files: Any
) -> None:
    content, url = server
    running = [_task("root-driver", "SUCCEEDED"), _task("NightPlanner", "RUNNING")]
    planned = [_task("NightPlanner", "SUCCEEDED"), _task("NightRecorder", "RUNNING")]
    content.states = [
        {"state": "RUNNING", "run_details": {"task_details": running}},
        {"status": 503},
        {"state": "RUNNING", "run_details": {"task_details": planned}},
        {"state": "RUNNING", "run_details": {"task_details": planned}},
        SUCCEEDED,
    ]
    done = run_command(
        "submit", "--package", files["nightly"], "--host", url, "--wait", "--poll", "0"
    )
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()[1:]]
    assert lines == [
        ["running", "NightPlanner"],
        ["succeeded", "NightPlanner"],
        ["running", "NightRecorder"],
    ]


def test_a_run_that_fails_names_the_task_and_its_page(
    server: Any, run_command: Any, files: Any
) -> None:
    content, url = server
    tasks = [_task("NightPlanner", "SUCCEEDED"), _task("StatisticsGen", "FAILED")]
    content.states = [{"state": "FAILED", "run_details": {"task_details": tasks}}]
    done = run_command(
        "submit", "--package", files["nightly"], "--host", url, "--wait", "--poll", "0"
    )
    assert done.code == 1
    assert "StatisticsGen failed: the run is FAILED" in done.err
    assert f"{url}/#/runs/details/" in done.err


def test_waiting_has_an_end(server: Any, run_command: Any, files: Any) -> None:
    content, url = server
    content.states = [{"state": "RUNNING"}]
    done = run_command(
        "submit", "--package", files["nightly"], "--host", url, "--wait", "--poll", "0",
        "--timeout", "0",
    )  # fmt: skip
    assert done.code == 1
    assert "it goes on by itself" in done.err


def test_waiting_gives_up_when_the_server_does(server: Any, run_command: Any, files: Any) -> None:
    content, url = server
    content.states = [{"status": 503}]
    command = ["submit", "--package", files["nightly"], "--host", url, "--wait", "--poll", "0"]
    assert "HTTP 503" in run_command(*command).err
    asked = len(content.requests)
    content.states = [{"status": 404}]
    assert "HTTP 404" in run_command(*command).err
    assert len([r for r in content.requests[asked:] if "/runs/" in r.path]) == 1


def test_json_says_all_of_it(server: Any, run_command: Any, files: Any) -> None:
    content, url = server
    content.states = [SUCCEEDED]
    done = run_command(
        "submit", "--package", files["release"], "--host", url, "--param", "span=3", "--wait",
        "--json",
    )  # fmt: skip
    said = json.loads(done.out)
    assert said["state"] == "SUCCEEDED"
    assert said["parameters"] == {"span": 3}
    assert said["run_id"] in content.runs


def test_a_package_that_the_backend_would_reject_is_not_sent(
    server: Any, run_command: Any, package: Any, tmp_path: pathlib.Path
) -> None:
    from tfx_encore.kubeflow.spec_package import write_package

    content, url = server
    spoiled = package("release")
    spoiled.pipeline["schemaVersion"] = "2.0.0"
    write_package(spoiled, tmp_path / "bad.yaml")
    done = run_command("submit", "--package", str(tmp_path / "bad.yaml"), "--host", url)
    assert done.code == 2
    assert "schema version 2.1.0 only" in done.err
    assert content.requests == []


def test_one_says_which_pipeline(run_command: Any, files: Any) -> None:
    assert run_command("submit").code == 2
    assert run_command("submit", "release", "--package", files["release"]).code == 2
    missing = run_command("submit", "--package", "/none.yaml")
    assert missing.code == 2
    assert "`encore kubeflow compile` writes it" in missing.err
