"""RequestLogExampleGen in a real TFX pipeline, with StatisticsGen after it."""

from __future__ import annotations

from pathlib import Path

import tensorflow_data_validation as tfdv
from ml_metadata.metadata_store import metadata_store
from tfx.components import StatisticsGen
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline

from tfx_encore.components import RequestLogExampleGen
from tfx_encore.components.request_log_example_gen.executor import read_log_report
from tfx_encore.components.request_log_example_gen.sources import files_digest
from tfx_encore.pipeline.beam_options import beam_args

SCHEMA = 'feature { name: "fare" type: FLOAT }\nfeature { name: "hour" type: INT }\n'


def run(folder: Path, file: Path) -> metadata_store.MetadataStore:
    (folder / "schema.pbtxt").write_text(SCHEMA)
    schema = ImportSchemaGen(schema_file=str(folder / "schema.pbtxt"))
    gen = RequestLogExampleGen(
        [file],
        date="2016-01-12",
        model_name="taxi",
        schema=schema.outputs["schema"],
        inputs_digest=files_digest([file]),
    )
    statistics = StatisticsGen(examples=gen.outputs["examples"])
    connection = sqlite_metadata_connection_config(str(folder / "metadata.db"))
    LocalDagRunner().run(
        Pipeline(
            pipeline_name="nightly",
            pipeline_root=str(folder / "root"),
            components=[schema, gen, statistics],
            enable_cache=True,
            metadata_connection_config=connection,
            beam_pipeline_args=[*beam_args("FnApiRunner")],
        )
    )
    return metadata_store.MetadataStore(connection)


def states(store: metadata_store.MetadataStore) -> list[str]:
    component = "tfx_encore.components.request_log_example_gen.component.RequestLogExampleGen"
    executions = store.get_executions_by_type(component)
    names = type(executions[0]).State.Name
    return [names(execution.last_known_state) for execution in executions]


def test_its_examples_are_read_by_tfx_and_only_new_files_are_read_again(logs, tmp_path):
    records = [
        logs.predict_examples([logs.example_of(fare=float(n), hour=n)], [0.5]) for n in range(5)
    ]
    file = logs.write_log(tmp_path / "log/2016-01-12/a.tfrecord", records)
    store = run(tmp_path, file)
    (examples,) = store.get_artifacts_by_type("Examples")
    assert examples.properties["split_names"].string_value == '["night"]'
    assert examples.properties["span"].int_value == 20160112
    assert examples.custom_properties["payload_format"].string_value == "FORMAT_TF_EXAMPLE"
    (report,) = store.get_artifacts_by_type("tfx_encore.RequestLogReport")
    assert report.custom_properties["rows"].int_value == 5
    assert report.custom_properties["date"].string_value == "2016-01-12"
    assert read_log_report(report.uri).rows == 5
    (statistics,) = store.get_artifacts_by_type("ExampleStatistics")
    found = tfdv.load_stats_binary(f"{statistics.uri}/Split-night/FeatureStats.pb").datasets[0]
    assert found.num_examples == 5
    names = {feature.path.step[0] for feature in found.features}
    assert {"fare", "hour", "encore_score", "encore_row_digest"} <= names

    run(tmp_path, file)
    assert states(store) == ["COMPLETE", "CACHED"]
    logs.write_log(file, records[:3])
    run(tmp_path, file)
    assert states(store) == ["COMPLETE", "CACHED", "COMPLETE"]
