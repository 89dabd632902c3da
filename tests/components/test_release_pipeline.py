"""LiveRelease and VersionedPusher in real TFX pipelines, beside stock components."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import tensorflow as tf
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from tfx_encore.components.live_release.component import LiveRelease
from tfx_encore.components.versioned_pusher.component import VersionedPusher
from tfx_encore.metadata.releases import ReleaseDirectory

CACHED, COMPLETE = pb.Execution.CACHED, pb.Execution.COMPLETE


class Doubler(tf.Module):
    """The smallest model that TF Serving would serve."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * self.factor}


def save(folder: Path, factor: float) -> str:
    module = Doubler(factor)
    signatures = {"serving_default": module.serve}
    tf.saved_model.save(module, str(folder / "Format-Serving"), signatures=signatures)
    return str(folder)


class Workspace:
    """A pipeline root, a release directory and a metadata store that runs share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.releases = ReleaseDirectory(folder / "releases", "doubler")
        (folder / "schema.pbtxt").write_text('feature { name: "x" type: FLOAT }')

    def nodes(self, model_uri: str, blessed: int = 1) -> list[BaseNode]:
        model = Importer(model_uri, standard_artifacts.Model, reimport=False).with_id("Model")
        blessing = Importer(
            str(self.folder / f"blessing{blessed}"),
            standard_artifacts.ModelBlessing,
            custom_properties={"blessed": blessed},
        ).with_id("Blessing")
        schema = ImportSchemaGen(schema_file=str(self.folder / "schema.pbtxt"))
        root = str(self.folder / "releases")
        live = LiveRelease(releases=root, model_name="doubler")
        pusher = VersionedPusher(
            model=model.outputs["result"],
            releases=root,
            model_name="doubler",
            blessings={"model": blessing.outputs["result"]},
            schema=schema.outputs["schema"],
        )
        pusher.add_upstream_node(live)
        return [model, blessing, schema, live, pusher]

    def run(self, nodes: Sequence[BaseNode]) -> None:
        LocalDagRunner().run(
            Pipeline(
                pipeline_name="release",
                pipeline_root=str(self.folder / "root"),
                components=list(nodes),
                enable_cache=True,
                metadata_connection_config=sqlite_metadata_connection_config(
                    str(self.folder / "metadata.db")
                ),
            )
        )

    def store(self) -> metadata_store.MetadataStore:
        return metadata_store.MetadataStore(
            sqlite_metadata_connection_config(str(self.folder / "metadata.db"))
        )

    def states(self, type_name: str) -> list[int]:
        return [e.last_known_state for e in self.store().get_executions_by_type(type_name)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def type_of(component: type) -> str:
    return f"{component.__module__}.{component.__qualname__}"


def test_both_look_again_in_every_run_while_the_rest_is_cached(
    workspace: Workspace, tmp_path: Path
) -> None:
    first, second = save(tmp_path / "first", 2.0), save(tmp_path / "second", 3.0)
    for model in (first, first, second):
        workspace.run(workspace.nodes(model))

    assert workspace.states(type_of(ImportSchemaGen)) == [COMPLETE, CACHED, CACHED]
    assert workspace.states(type_of(LiveRelease)) == [COMPLETE] * 3
    assert workspace.states(type_of(VersionedPusher)) == [COMPLETE] * 3

    store = workspace.store()
    pushed = [
        (a.custom_properties["pushed"].int_value, a.custom_properties["version"].int_value)
        for a in store.get_artifacts_by_type("PushedModel")
    ]
    assert pushed == [(1, 1), (0, 1), (1, 2)]
    models = store.get_artifacts_by_type("Model")
    live = [a for a in models if "present" in a.custom_properties]
    assert [a.custom_properties["release"].string_value for a in live] == [
        "",
        "release 1",
        "release 1",
    ]
    assert workspace.releases.verify() == []
    loaded = tf.saved_model.load(str(workspace.releases.version_path(2)))
    answer = loaded.signatures["serving_default"](x=tf.constant([1.5]))["y"]
    assert answer.numpy().tolist() == [4.5]
    baseline = tf.saved_model.load(f"{live[-1].uri}/Format-Serving")
    assert baseline.signatures["serving_default"](x=tf.constant([1.5]))["y"].numpy() == 3.0


def test_the_orchestrator_publishes_the_record_with_the_execution(
    workspace: Workspace, tmp_path: Path
) -> None:
    for name, factor in (("first", 2.0), ("second", 3.0)):
        workspace.run(workspace.nodes(save(tmp_path / name, factor)))
    store = workspace.store()
    none, one = store.get_artifacts_by_type("tfx_encore.CacheInvalidation")
    assert none.custom_properties["records"].int_value == 0
    assert one.state == pb.Artifact.LIVE
    record = json.loads(one.custom_properties["payload"].string_value)
    assert (record["version_before"], record["version_after"]) == (1, 2)
    (event,) = store.get_events_by_artifact_ids([one.id])
    (execution,) = store.get_executions_by_id([event.execution_id])
    types_ = store.get_execution_types_by_id([execution.type_id])
    assert types_[0].name == type_of(VersionedPusher)
    run = workspace.releases.manifest(2).run_id
    assert run in [context.name for context in store.get_contexts_by_execution(execution.id)]
    assert workspace.releases.manifest(2).lineage["model"] > 0


def test_a_refused_push_completes_the_run(workspace: Workspace, tmp_path: Path) -> None:
    workspace.run(workspace.nodes(save(tmp_path / "first", 2.0), blessed=0))
    (pushed,) = workspace.store().get_artifacts_by_type("PushedModel")
    assert pushed.custom_properties["pushed"].int_value == 0
    assert "model: it is not blessed" in pushed.custom_properties["reason"].string_value
    assert workspace.releases.live() is None


def test_both_compile_for_kubeflow(workspace: Workspace, tmp_path: Path) -> None:
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
            default_image="example.org/image", use_pipeline_spec_2_1=True
        ),
        output_dir=str(tmp_path),
        output_filename="pipeline.json",
    )
    nodes = workspace.nodes("gs://bucket/model")
    runner.run(Pipeline("release", "gs://bucket/root", components=nodes), write_out=True)
    specification = json.loads((tmp_path / "pipeline.json").read_text())["pipelineSpec"]
    inputs = specification["components"]["VersionedPusher"]["inputDefinitions"]
    assert sorted(inputs["artifacts"]) == ["blessing_model", "model", "schema"]
    assert "nonce" in inputs["parameters"]
    outputs = specification["components"]["VersionedPusher"]["outputDefinitions"]["artifacts"]
    kind = outputs["invalidation"]["artifactType"]
    assert "tfx_encore.CacheInvalidation" in json.dumps(kind)
    assert sorted(specification["components"]["LiveRelease"]["outputDefinitions"]["artifacts"]) == [
        "model",
        "schema",
        "slice_report",
        "statistics",
    ]
