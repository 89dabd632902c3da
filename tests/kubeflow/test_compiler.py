"""The release pipeline compiles for Kubeflow Pipelines v2, within what its backend accepts."""

from __future__ import annotations

import pathlib

import pytest

from tfx_encore.kubeflow.compiler import compile_pipeline
from tfx_encore.pipeline.config import load_config
from tfx_encore.pipeline.plan import ReleaseInputs
from tfx_encore.pipeline.release import release_pipeline
from tfx_encore.schemas.release import Provenance

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def specification(tmp_path_factory):
    inputs = ReleaseInputs(
        data_folder="/data/span-1",
        data_pattern="*.csv",
        schema_path="/data/taxi.pbtxt",
        module="tfx_encore.pipeline.taxi.model",
        module_digest="sha256:0",
        releases="/releases",
        provenance=Provenance(),
    )
    pipeline = release_pipeline(
        load_config(ROOT / "encore.yaml"), inputs, root="/artifacts", metadata_connection=None
    )
    output = tmp_path_factory.mktemp("kfp") / "release.json"
    return compile_pipeline(pipeline, image="encore:test", output=output)


def _tasks(specification):
    return specification["pipelineSpec"]["root"]["dag"]["tasks"]


def test_every_component_becomes_a_container_task(specification):
    executors = specification["pipelineSpec"]["deploymentSpec"]["executors"]
    assert len(_tasks(specification)) == 11
    assert len(executors) == 11
    assert all("container" in executor for executor in executors.values())


def test_components_that_read_the_world_are_never_answered_from_the_cache(specification):
    caching = {
        name: bool(task.get("cachingOptions", {}).get("enableCache"))
        for name, task in _tasks(specification).items()
    }
    assert not caching["LiveRelease"]
    assert not caching["VersionedPusher"]
    assert caching["Trainer"]
    assert caching["DriftValidator"]


def test_our_artifact_types_are_importable_by_the_name_in_the_specification(specification):
    import tfx_encore

    component = specification["pipelineSpec"]["components"]["VersionedPusher"]
    artifact = component["outputDefinitions"]["artifacts"]["invalidation"]["artifactType"]
    assert "tfx_encore.CacheInvalidation" in artifact["instanceSchema"]
    assert tfx_encore.CacheInvalidation.TYPE_NAME == "tfx_encore.CacheInvalidation"


def test_no_task_carries_typed_properties_of_an_artifact_of_ours(specification):
    for component in specification["pipelineSpec"]["components"].values():
        for artifact in component.get("outputDefinitions", {}).get("artifacts", {}).values():
            schema = artifact["artifactType"]["instanceSchema"]
            assert "tfx_encore." not in schema or "properties:" not in schema
