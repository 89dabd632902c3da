"""The release pipeline: stock TFX components with ours between them."""

from __future__ import annotations

import json
from typing import Any, Optional

from tfx.components.example_gen.csv_example_gen.component import CsvExampleGen
from tfx.components.example_validator.component import ExampleValidator
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.components.trainer.component import Trainer
from tfx.components.transform.component import Transform
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import example_gen_pb2, trainer_pb2

from tfx_encore.components import (
    CacheWarmer,
    DriftValidator,
    LiveRelease,
    SlicedEvaluator,
    VersionedPusher,
)
from tfx_encore.pipeline.config import ProjectConfig
from tfx_encore.pipeline.plan import ReleaseInputs

_BUCKETS = 300  # of the hash that splits rows, so that shares are right to a third of a percent


def release_components(
    config: ProjectConfig, inputs: ReleaseInputs, *, schema: Optional[BaseNode] = None
) -> list[BaseNode]:
    """The components of the release pipeline, in the order in which they run.

    Args:
        config: the project.
        inputs: what the pipeline reads besides.
        schema: puts out the `schema`; ImportSchemaGen does, if not given.
    """
    examples = CsvExampleGen(
        input_base=inputs.data_folder,
        input_config=example_gen_pb2.Input(
            splits=[example_gen_pb2.Input.Split(name="span", pattern=inputs.data_pattern)]
        ),
        output_config=_split(config.data.eval_share),
    )
    schema = schema or ImportSchemaGen(schema_file=inputs.schema_path)
    statistics = StatisticsGen(
        examples=examples.outputs["examples"], schema=schema.outputs["schema"]
    )
    validator = ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    live = LiveRelease(
        releases=inputs.releases, model_name=config.model, label=config.release.label
    )
    drift = DriftValidator(
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        baseline_statistics=live.outputs["statistics"],
        policy=config.drift,
    )
    transform = Transform(
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn=f"{inputs.module}.preprocessing_fn",
        custom_config={"module_digest": inputs.module_digest},
    )
    trainer = _trainer(config, inputs, transform)
    evaluator = SlicedEvaluator(
        examples=examples.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=live.outputs["model"],
        baseline_report=live.outputs["slice_report"],
        schema=schema.outputs["schema"],
        policy=config.evaluation,
    )
    warmer = CacheWarmer(
        model=trainer.outputs["model"],
        examples=examples.outputs["examples"],
        request_log=inputs.request_log,
        schema=schema.outputs["schema"],
        policy=config.warmup.model_copy(update={"model_name": config.model}),
        releases=inputs.releases,
    )
    pusher = VersionedPusher(
        model=trainer.outputs["model"],
        releases=inputs.releases,
        model_name=config.model,
        blessings={
            "drift": drift.outputs["report"],
            "model": evaluator.outputs["blessing"],
        },
        live_model=live.outputs["model"],
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        drift_report=drift.outputs["report"],
        slice_report=evaluator.outputs["slice_report"],
        snapshot=warmer.outputs["snapshot"],
        coverage=warmer.outputs["coverage"],
        policy=config.release,
        provenance=inputs.provenance,
    )
    return [
        examples, schema, statistics, validator, live, drift,
        transform, trainer, evaluator, warmer, pusher,
    ]  # fmt: skip


def release_pipeline(
    config: ProjectConfig,
    inputs: ReleaseInputs,
    *,
    root: str,
    metadata_connection: Any,
    beam_args: tuple[str, ...] = (),
) -> Pipeline:
    """The release pipeline as TFX runs it.

    Args:
        config: the project.
        inputs: what the pipeline reads besides.
        root: TFX's pipeline root.
        metadata_connection: ml-metadata connection config; None on Kubeflow.
        beam_args: Beam options.
    """
    return Pipeline(
        pipeline_name=f"{config.model}-release",
        pipeline_root=root,
        metadata_connection_config=metadata_connection,
        components=release_components(config, inputs),
        beam_pipeline_args=list(beam_args),
        enable_cache=True,
    )


def _split(eval_share: float) -> example_gen_pb2.Output:
    evaluation = min(max(round(_BUCKETS * eval_share), 1), _BUCKETS - 1)
    split = example_gen_pb2.SplitConfig.Split
    return example_gen_pb2.Output(
        split_config=example_gen_pb2.SplitConfig(
            splits=[
                split(name="train", hash_buckets=_BUCKETS - evaluation),
                split(name="eval", hash_buckets=evaluation),
            ]
        )
    )


def _trainer(config: ProjectConfig, inputs: ReleaseInputs, transform: Transform) -> Trainer:
    custom = {**config.training.hyperparameters, "module_digest": inputs.module_digest}
    return Trainer(
        run_fn=f"{inputs.module}.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        train_args=trainer_pb2.TrainArgs(num_steps=config.training.train_steps),
        eval_args=trainer_pb2.EvalArgs(num_steps=config.training.eval_steps),
        custom_config=json.loads(json.dumps(custom)),
    )
