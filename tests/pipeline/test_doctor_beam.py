"""`encore doctor --runner`: what work on other machines needs, and where it is missing."""

from __future__ import annotations

import importlib.metadata
import json
import socket
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from tfx_encore.pipeline import doctor_beam
from tfx_encore.pipeline.beam_options import BeamChoice
from tfx_encore.pipeline.commands.doctor import command
from tfx_encore.pipeline.doctor_beam import (
    address_check,
    choice_for,
    gcp_check,
    java_check,
    job_server_check,
    runner_checks,
    wheel_check,
)

IMAGE = "--sdk_container_image=registry.example/encore:1"
FLINK = "--flink_master=127.0.0.1:1"


@pytest.fixture
def open_port():
    """The port of something that listens on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _checks(runner, *options):
    return {check.name: check for check in runner_checks(BeamChoice.of(runner, options))}


def test_in_this_process_nothing_is_missing():
    (check,) = runner_checks(BeamChoice.of("FnApiRunner"))
    assert (check.state, check.found) == ("ok", "FnApiRunner, in this process")


def test_flink_without_options_is_told_what_it_needs():
    checks = list(runner_checks(BeamChoice.of("flink")))
    told = " ".join(check.found for check in checks if check.state != "ok")
    assert "--flink_master=HOST:PORT" in told
    assert "workers would lack tfx-encore" in told


def test_a_cluster_that_does_not_answer_is_named():
    check = _checks("flink", FLINK, IMAGE)["flink_master"]
    assert check.state == "problem"
    assert "127.0.0.1:1 does not answer" in check.found


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "http://127.0.0.1:{}", "spark://127.0.0.1:{}"])
def test_an_address_that_answers_is_well(open_port, form):
    assert address_check("x", form.format(open_port), "").state == "ok"


def test_pools_are_asked_one_by_one(open_port):
    pools = f"--environment_config=127.0.0.1:{open_port},127.0.0.1:1"
    choice = BeamChoice.of("FnApiRunner", ("--environment_type=EXTERNAL", pools))
    states = [check.state for check in runner_checks(choice) if check.name == "worker pool"]
    assert states == ["ok", "problem"]


def test_a_job_server_is_found_in_beams_own_folder_or_said_how_to_get(tmp_path):
    choice = BeamChoice.of("flink", (FLINK, IMAGE, "--flink_version=1.20"))
    missing = job_server_check(choice, tmp_path)
    version = importlib.metadata.version("apache-beam")
    assert missing.state == "missing"
    assert f"org.apache.beam:beam-runners-flink-1.20-job-server:{version}" in missing.advice
    (tmp_path / f"beam-runners-flink-1.20-job-server-{version}.jar").touch()
    assert job_server_check(choice, tmp_path).state == "ok"
    named = BeamChoice.of("spark", (f"--spark_job_server_jar={tmp_path}/none.jar",))
    assert job_server_check(named, tmp_path).state == "missing"


def test_the_names_of_job_servers_are_those_that_beam_looks_for(tmp_path):
    from apache_beam.options.pipeline_options import (
        FlinkRunnerOptions,
        PipelineOptions,
        SparkRunnerOptions,
    )

    assert doctor_beam.flink_version() in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    spark = PipelineOptions([]).view_as(SparkRunnerOptions).spark_version
    assert spark == doctor_beam._SPARK_VERSION


@pytest.mark.parametrize(
    ("says", "state"),
    [('openjdk version "17.0.1"', "ok"), ('java version "1.8.0_4"', "problem"), ("?", "problem")],
)
def test_java_must_be_new_enough(tmp_path, monkeypatch, says, state):
    program = tmp_path / "java"
    program.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert java_check().state == state


def test_java_that_is_not_there_is_said_to_be_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert java_check().state == "missing"


def test_packages_of_google_are_counted():
    check = gcp_check()
    assert "apache-beam[gcp]" in check.name
    assert check.state == "ok" or "apache-beam[gcp]==" in check.advice


def test_a_wheel_of_another_version_is_not_ours(tmp_path):
    version = importlib.metadata.version("tfx-encore")
    for name, state in ((version, "ok"), ("0.0.1", "problem")):
        path = tmp_path / f"tfx_encore-{name}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(f"tfx_encore-{name}.dist-info/METADATA", "")
        assert wheel_check(str(path)).state == state
    assert wheel_check(str(tmp_path / "none.whl")).state == "problem"


def test_dataflow_is_told_that_it_cannot_read_a_disk():
    assert _checks("dataflow")["storage"].state == "problem"


def test_the_projects_own_options_are_looked_at_where_they_are_for_the_runner():
    configured = BeamChoice.of("flink", (FLINK, IMAGE))
    assert choice_for("FlinkRunner", configured) is configured
    assert choice_for("spark", configured).options == {}


def test_the_command_says_it_as_json_and_ends_with_1(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(command, ["--runner", "flink", "--json"])
    checks = [c for c in json.loads(done.output)["checks"] if c["area"] == "runner"]
    assert done.exit_code == 1
    assert {"runner", "options", "java", "job server"} <= {check["name"] for check in checks}


def test_checking_a_runner_loads_no_beam():
    code = "import sys, tfx_encore.pipeline.doctor_beam; assert 'apache_beam' not in sys.modules"
    import subprocess

    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path("/"))
