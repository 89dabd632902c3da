"""What runs in a container makes of the open-source backend's ExecutorInput what TFX can use."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tfx_encore.kubeflow import entrypoint
from tfx_encore.kubeflow.entrypoint import local_path, prepare, restore_uris
from tfx_encore.pipeline.taxi.data import shipped_csv, write_spans

TYPE = {"instanceSchema": "title: tfx.Model\ntype: object\n"}


def _artifact(uri: str, **more: Any) -> dict[str, Any]:
    return {"artifacts": [{"uri": uri, **more}]}


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("minio://bucket/a/b", "/minio/bucket/a/b"),
        ("s3://bucket/a", "/s3/bucket/a"),
        ("gs://bucket/a", "/gcs/bucket/a"),
        ("/encore/a", "/encore/a"),
        ("hdfs://host/a", "hdfs://host/a"),
    ],
)
def test_uris_are_where_the_launcher_keeps_their_copies(uri: str, path: str) -> None:
    assert local_path(uri) == path


def test_lost_types_come_back_from_the_declaration() -> None:
    invocation = {
        "inputs": {"artifacts": {"model": _artifact("s3://b/m", type={"instanceSchema": ""})}},
        "outputs": {"artifacts": {}},
    }
    prepare(invocation, {"artifacts": {"model": {"artifactType": TYPE}}})
    (model,) = invocation["inputs"]["artifacts"]["model"]["artifacts"]
    assert model == {"uri": "/s3/b/m", "type": TYPE}


def test_a_type_that_is_there_stays() -> None:
    other = {"instanceSchema": "title: tfx.Schema\n"}
    invocation = {"inputs": {"artifacts": {"model": _artifact("/m", type=dict(other))}}}
    prepare(invocation, {"artifacts": {"model": {"artifactType": TYPE}}})
    assert invocation["inputs"]["artifacts"]["model"]["artifacts"][0]["type"] == other


def test_outputs_of_the_backend_are_left_to_it() -> None:
    outputs = {
        "model": _artifact("minio://b/model", type=TYPE),
        "executor-logs": _artifact("minio://b/log", type={"schemaTitle": "system.Artifact"}),
    }
    invocation = {"outputs": {"artifacts": outputs}}
    assert prepare(invocation, {}) == {"/minio/b/model": "minio://b/model"}
    assert list(outputs) == ["model"]


def test_what_the_component_said_carries_the_uris_again(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "output_metadata.json"
    said = {"artifacts": {"model": _artifact("/minio/b/model"), "other": _artifact("/x")}}
    file.write_text(json.dumps({**said, "parameterValues": {"a": "b"}}))
    restore_uris(str(file), {"/minio/b/model": "minio://b/model"})
    written = json.loads(file.read_text())
    assert written["artifacts"]["model"] == _artifact("minio://b/model")
    assert written["artifacts"]["other"] == _artifact("/x")
    assert written["parameterValues"] == {"a": "b"}


Task = Callable[..., Any]


@pytest.fixture
def task(
    compiled: Any, backend: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Task:
    """Runs the first tasks of a compiled pipeline as the backend does, up to the one named."""
    local = tmp_path / "container"
    for scheme, folder in list(entrypoint._LOCAL.items()):
        monkeypatch.setitem(entrypoint._LOCAL, scheme, f"{local}{folder}")

    def container(image: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        code = entrypoint.main(command[3:])
        if code:
            raise RuntimeError(f"exit code {code}")

    def run(kind: str, *names: str, **parameters: Any) -> Any:
        running = backend.Backend(
            compiled[kind].pipeline, tmp_path / "bucket", local, container,
            scheduled_at=parameters.pop("scheduled_at", None),
        )  # fmt: skip
        given = running._root_parameters(parameters)
        for name in names:
            running.tasks[name] = running.run_task(name, given)
        return running

    return run


def test_the_planner_of_a_release_says_what_the_local_command_computes(
    task: Task, tmp_path: pathlib.Path
) -> None:
    from tfx_encore.metadata.files import digest_of
    from tfx_encore.pipeline.config import load_config
    from tfx_encore.pipeline.inputs import inputs_digest

    root = pathlib.Path(__file__).parents[2]
    write_spans(shipped_csv(), tmp_path / "data")
    ran = task(
        "release", "SchemaText", "ReleasePlanner",
        spans=f"{tmp_path}/data/span-{{SPAN}}/*.csv", span=2,
    )  # fmt: skip
    said = ran.tasks["ReleasePlanner"].parameters
    provenance = json.loads(said["planned_provenance"])
    (span,) = provenance["spans"]
    assert said["planned_data_folder"] == f"{tmp_path}/data/span-2"
    assert json.loads(said["planned_data_files"])["splits"][0]["pattern"] == "*.csv"
    assert said["planned_data_digest"] == span["digest"]
    assert provenance["run_id"] == "0f8fad5b-d9cb-469f-a165-70867728950e"
    digest = inputs_digest(
        load_config(root / "encore.yaml"),
        span["digest"],
        digest_of(root / "schemas" / "taxi.pbtxt"),
        digest_of(root / "pipeline" / "taxi" / "model.py"),
    )
    assert provenance["inputs_digest"] == digest


def test_thresholds_of_a_run_change_the_digest_of_its_inputs(
    task: Task, compiled: Any, tmp_path: pathlib.Path
) -> None:
    write_spans(shipped_csv(), tmp_path / "data")
    where = {"spans": f"{tmp_path}/data/span-{{SPAN}}/*.csv", "span": 1}
    drift = json.loads(compiled["release"].parameters["drift"]["defaultValue"])
    drift["thresholds"]["psi"] = 0.4
    tasks = ("SchemaText", "ReleasePlanner")
    digests = {
        json.loads(
            task("release", *tasks, **where, **more)
            .tasks["ReleasePlanner"]
            .parameters["planned_provenance"]
        )["inputs_digest"]
        for more in ({}, {"drift": json.dumps(drift)})
    }
    assert len(digests) == 2


def test_an_error_of_ours_is_one_line_and_fails_the_task(
    task: Task, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError, match="exit code 1"):
        task("release", "SchemaText", "ReleasePlanner", spans=f"{tmp_path}/none-{{SPAN}}/*.csv")
    assert "encore: no files for span 1" in capsys.readouterr().err


def test_a_threshold_that_is_not_valid_fails_the_first_task(
    task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError, match="exit code 2"):
        task("nightly", "SchemaText", "NightPlanner", nightly='{"season": {"weeks": 100}}')
    assert "nightly.season.weeks" in capsys.readouterr().err


def test_the_planner_of_a_night_hands_on_its_files_and_its_time(
    task: Task, tmp_path: pathlib.Path
) -> None:
    log = tmp_path / "requests" / "taxi" / "2016-01-12"
    log.mkdir(parents=True)
    (log / "a.tfrecord").write_bytes(b"x")
    where = {"request_log": f"{tmp_path}/requests", "releases": f"{tmp_path}/releases"}
    ran = task(
        "nightly", "SchemaText", "NightPlanner", **where, date="20160113030000",
        scheduled_at="2016-01-13T03:00:00Z",
    )  # fmt: skip
    planner = ran.tasks["NightPlanner"]
    assert planner.parameters["planned_date"] == "2016-01-12"
    assert json.loads(planner.parameters["planned_earlier_nights"])["date"] == "2016-01-12"
    night = planner.artifacts["night"]
    assert night["metadata"]["log"] == 1.0
    written = json.loads((ran._blob(night["uri"]) / "inputs.json").read_text())
    assert [file["path"] for file in written["log"]] == [str(log / "a.tfrecord")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"date": "2016-01-12"}, "no requests of taxi are logged on 2016-01-12"),
        ({"labels": "/encore/{DATE}.csv"}, "not how they are joined"),
    ],
    ids=["a day without a log that was asked for", "labels that were not compiled in"],
)
def test_the_night_planner_refuses(
    task: Task,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    given: dict[str, str],
    said: str,
) -> None:
    (tmp_path / "requests").mkdir()
    where = {"request_log": f"{tmp_path}/requests", "releases": f"{tmp_path}/releases"}
    with pytest.raises(RuntimeError):
        task("nightly", "SchemaText", "NightPlanner", **where, **given)
    assert said in capsys.readouterr().err
