"""`encore kubeflow compile`, and how `encore` finds commands that lie above it."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

import pytest
import yaml

from tfx_encore.kubeflow.commands import options
from tfx_encore.kubeflow.commands.options import KINDS
from tfx_encore.kubeflow.resources import containers
from tfx_encore.kubeflow.spec_package import read_package
from tfx_encore.pipeline import cli
from tfx_encore.schemas.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[2]
ENCORE = pathlib.Path(sys.executable).parent / "encore"
WHERE = ["--image", "registry.example/encore:1.4", "--releases-claim", "encore"]


@pytest.fixture
def project(tmp_path: pathlib.Path) -> pathlib.Path:
    """The taxi example's project file and schema."""
    config = yaml.safe_load((ROOT / "encore.yaml").read_text())
    config["data"]["schema"] = "taxi.pbtxt"
    shutil.copy(ROOT / "schemas" / "taxi.pbtxt", tmp_path)
    file = tmp_path / "encore.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def _edit(file: pathlib.Path, section: str, **changes: Any) -> None:
    config = yaml.safe_load(file.read_text())
    config.setdefault(section, {}).update(changes)
    file.write_text(yaml.safe_dump(config))


def test_encore_lists_the_command_and_stays_quick() -> None:
    done = subprocess.run([str(ENCORE), "--help"], capture_output=True, text=True, check=True)
    assert "kubeflow" in done.stdout
    assert "Compile, submit and schedule on Kubeflow." in done.stdout
    code = (
        "import sys; from click.testing import CliRunner; from tfx_encore.pipeline import cli; "
        "CliRunner().invoke(cli.cli, ['--help']); CliRunner().invoke(cli.cli, ['kubeflow']); "
        "sys.exit(str(sorted({'tensorflow', 'tfx', 'kfp', 'yaml', 'pydantic'} & set(sys.modules))))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert loaded.stderr.strip() == "[]"


def test_both_pipelines_are_written(project: pathlib.Path, run_command: Any) -> None:
    done = run_command("compile", "--config", str(project), *WHERE, "--json")
    assert done.code == 0, done.err
    written = {entry["kind"]: entry for entry in json.loads(done.out)}
    folder = project.parent / ".encore" / "kubeflow"
    assert written["release"]["name"] == "taxi-release"
    for kind in ("release", "nightly"):
        assert written[kind]["file"] == str(folder / f"{kind}.yaml")
        assert read_package(folder / f"{kind}.yaml").name == f"taxi-{kind}"
    assert run_command("submit", "release", "--config", str(project), "--param", "x=1").code == 2


def test_options_reach_the_specification(
    project: pathlib.Path, run_command: Any, tmp_path: pathlib.Path
) -> None:
    done = run_command(
        "compile", "nightly", "--config", str(project), *WHERE, "--releases-mount", "/mnt/e",
        "--volume", "logs:/mnt/l", "--secret-env", "TOKEN=keys:token", "--env", "TZ=UTC",
        "--pull-policy", "Always", "--pipeline-root", "s3://bucket/root", "--name", "nights",
        "--output", str(tmp_path / "out"), "--set", "nightly.request_log=/mnt/l",
        "--set", "nightly.season.weeks=2",
    )  # fmt: skip
    assert done.code == 0, done.err
    package = read_package(tmp_path / "out" / "nightly.yaml")
    assert package.name == "nights"
    assert package.pipeline["defaultPipelineRoot"] == "s3://bucket/root"
    assert package.parameters["releases"]["defaultValue"] == "/mnt/e/.encore/releases"
    assert package.parameters["request_log"]["defaultValue"] == "/mnt/l"
    assert json.loads(package.parameters["nightly"]["defaultValue"])["season"]["weeks"] == 2
    executors = package.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors["NightPlanner_executor"]["imagePullPolicy"] == "Always"
    containers = package.pipeline["deploymentSpec"]["executors"].values()
    assert all(c["container"]["env"] == [{"name": "TZ", "value": "UTC"}] for c in containers)


@pytest.mark.parametrize(
    ("section", "changes", "arguments", "message"),
    [
        ("training", {"module": "model.py"}, (), "`COPY model.py`"),
        ("data", {"spans": "/data/{SPAN}.csv"}, (), "below no volume"),
        ("beam", {"runner": "DaskRunner"}, (), "loses data"),
        ("metadata", {"sqlite": "m.sqlite"}, (), "metadata.grpc"),
        ("drift", {"labels": ["tip"]}, (), "no feature 'tip'"),
        ("data", {}, ("--name", "Taxi"), "give another with --name"),
        ("data", {}, ("--volume", "logs"), "is not CLAIM:PATH"),
        ("data", {}, ("--secret-env", "A=b"), "is not VARIABLE=SECRET:KEY"),
        ("data", {}, ("--env", "1A=b"), "is not VARIABLE=VALUE"),
        ("data", {}, ("--set", "drift.thresholds.psi=x"), "drift.thresholds.psi"),
        ("data", {}, ("--pipeline-root", "/x"), "s3://, gs:// and minio:// only"),
        ("data", {}, ("--releases-claim", ""), "--releases-claim: name the claim"),
        ("data", {}, ("--image", ""), "give one with --image"),
        ("data", {}, ("--memory", "4GB"), "--memory: '4GB' is not [TASK=]QUANTITY, as 4Gi"),
        ("data", {}, ("--memory", "512"), "--memory: '512': give 1Mi or more"),
        ("data", {}, ("--memory", "NaN"), "is not [TASK=]QUANTITY"),
        ("data", {}, ("--memory", "=4Gi"), "is not [TASK=]QUANTITY"),
        ("data", {}, ("--cpu", "-1"), "--cpu: '-1': give 1m or more"),
        ("data", {}, ("--cpu", "1e99"), "--cpu: '1e99'"),
        ("data", {}, ("--cpu", "Trainr=2"), "--cpu: there is no task 'Trainr'; name one of Cache"),
    ],
)
def test_what_cannot_run_is_refused_with_the_way_out(
    project: pathlib.Path, run_command: Any, section: str, changes: dict[str, Any],
    arguments: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    _edit(project, section, **changes)
    done = run_command("compile", "release", "--config", str(project), *WHERE, *arguments)
    assert done.code == 2
    assert message in done.err
    assert not (project.parent / ".encore").exists(), "nothing is written"


def test_every_problem_is_said_at_once(project: pathlib.Path, run_command: Any) -> None:
    _edit(project, "training", module="model.py")
    _edit(project, "metadata", sqlite="metadata.sqlite")
    done = run_command("compile", "release", "--config", str(project), *WHERE)
    assert "training.module" in done.err
    assert "metadata.sqlite" in done.err


def test_a_module_in_the_image_takes_the_place_of_a_file(
    project: pathlib.Path, run_command: Any
) -> None:
    _edit(project, "training", module="model.py")
    done = run_command(
        "compile", "release", "--config", str(project), "--module", "my_model",
        "--pythonpath", "/encore/code", "--image", "encore", "--releases-claim", "encore",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "warning" in done.err
    assert "no tag" in done.err
    package = read_package(project.parent / ".encore" / "kubeflow" / "release.yaml")
    trainer = package.pipeline["root"]["dag"]["tasks"]["Trainer"]["inputs"]["parameters"]
    assert trainer["run_fn"]["runtimeValue"]["constant"] == "my_model.run_fn"
    executor = package.pipeline["deploymentSpec"]["executors"]["Trainer_executor"]
    assert executor["container"]["env"] == [{"name": "PYTHONPATH", "value": "/encore/code"}]


def test_tasks_are_promised_what_was_asked_for(project: pathlib.Path, run_command: Any) -> None:
    done = run_command(
        "compile", "--config", str(project), *WHERE, "--cpu", "500m", "--cpu", "Trainer=4",
        "--memory", "Trainer=8Gi", "--memory", "StatisticsGen=2.5G",
    )  # fmt: skip
    assert done.code == 0, done.err
    folder = project.parent / ".encore" / "kubeflow"
    found = {kind: containers(read_package(folder / f"{kind}.yaml").pipeline) for kind in KINDS}
    release, nightly = (
        {task: container["resources"] for task, container in found[kind].items()} for kind in KINDS
    )
    trainer = {"cpuRequest": 4.0, "memoryRequest": 8.589934592, "memoryLimit": 8.589934592}
    assert release["Trainer"] == trainer
    assert release["StatisticsGen"] == {"cpuRequest": 0.5, "memoryRequest": 2.5, "memoryLimit": 2.5}
    assert nightly["NightPlanner"] == {"cpuRequest": 0.5}


def test_without_a_word_tasks_are_promised_nothing(project: pathlib.Path, run_command: Any) -> None:
    assert run_command("compile", "release", "--config", str(project), *WHERE).code == 0
    package = read_package(project.parent / ".encore" / "kubeflow" / "release.yaml")
    assert not any("resources" in each for each in containers(package.pipeline).values())


def test_nothing_is_written_where_one_of_two_pipelines_is_refused(
    project: pathlib.Path, run_command: Any
) -> None:
    _edit(project, "nightly", request_log="/elsewhere")
    done = run_command("compile", "--config", str(project), *WHERE)
    assert done.code == 2
    assert "the nightly pipeline cannot run" in done.err
    assert not (project.parent / ".encore").exists()


def _point(value: str) -> EntryPoint:
    return EntryPoint("extra", value, cli.ENTRY_POINTS)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:command", "cannot be loaded"),
        ("tfx_encore.pipeline.cli:no_such_name", "cannot be loaded"),
        ("tfx_encore.pipeline.cli:COMMANDS", "is no click command"),
    ],
)
def test_an_added_command_that_is_broken_is_said(
    monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    monkeypatch.setattr(cli, "entry_points", lambda group: [_point(value)])
    with pytest.raises(ConfigError, match=message):
        cli.cli.get_command(None, "extra")  # type: ignore[arg-type]


def test_an_added_command_never_replaces_one_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    hijack = EntryPoint("run", "os:system", cli.ENTRY_POINTS)
    monkeypatch.setattr(cli, "entry_points", lambda group: [hijack])
    assert cli.added_commands() == {}


def test_without_kubeflows_sdk_the_command_says_how_to_get_it(
    project: pathlib.Path, run_command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = options.importlib.util.find_spec
    monkeypatch.setattr(
        options.importlib.util, "find_spec", lambda name: None if name == "kfp" else find(name)
    )
    done = run_command("compile", "--config", str(project), *WHERE)
    assert done.code == 2
    assert "pip install 'tfx[kfp]'" in done.err
    assert run_command("schedule", "--list", "--host", "http://127.0.0.1:1").code == 2
