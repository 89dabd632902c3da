"""SlicedEvaluator on real taxi rows and real SavedModels: TFX's own evaluator runs in each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import pytest
import tensorflow_model_analysis as tfma
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.pusher.executor import Executor as PusherExecutor
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import channel, standard_artifacts

from tfx_encore.components.sliced_evaluator.component import SlicedEvaluator
from tfx_encore.components.sliced_evaluator.executor import Executor
from tfx_encore.monitoring.auc import auc
from tfx_encore.monitoring.slice_report import SliceTable
from tfx_encore.pipeline.beam_options import beam_args
from tfx_encore.schemas.artifacts import SliceReport
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome
from tfx_encore.schemas.errors import ConfigError, DataError, ModelError
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.serial import from_json, to_json

RULES = [
    {"metric": "accuracy", "max_drop": 0.02, "minimum": 0.5},
    {"metric": "auc", "max_drop": 0.02},
]
POLICY = EvaluationPolicy(
    label_key="big_tipper",
    slices=[[], ["payment_type"], ["trip_start_hour"]],
    rules=RULES,
    min_cases=20,
    watched_slices=[{"payment_type": "Barter"}],
)


@dataclass(frozen=True)
class Outputs:
    evaluation: standard_artifacts.ModelEvaluation
    blessing: standard_artifacts.ModelBlessing
    slice_report: SliceReport

    @property
    def decision(self) -> Decision:
        return from_json(Decision, Path(self.slice_report.uri, "decision.json").read_bytes())

    @property
    def slices(self) -> SliceTable:
        return from_json(SliceTable, Path(self.slice_report.uri, "slices.json").read_bytes())

    def evidence(self, subject: str, measure: str) -> list[Evidence]:
        found = self.decision.evidence
        return [item for item in found if (item.subject, item.measure) == (subject, measure)]


def outputs_in(folder: Path) -> Outputs:
    made = Outputs(
        standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing(), SliceReport()
    )
    for name in ("evaluation", "blessing", "slice_report"):
        (folder / name).mkdir()
        getattr(made, name).uri = str(folder / name)
    return made


def evaluate(
    folder: Path,
    examples: Any,
    model: Any,
    baseline: Any = None,
    policy: EvaluationPolicy = POLICY,
    **more: Any,
) -> Outputs:
    inputs = {"examples": [examples], "model": [model]}
    inputs |= {"baseline_model": [baseline]} if baseline else {}
    inputs |= {key: [artifact] for key, artifact in more.items()}
    outputs = outputs_in(folder)
    context = BaseBeamExecutor.Context(
        beam_pipeline_args=[*beam_args("FnApiRunner")], tmp_dir=str(folder), unique_id="1"
    )
    Executor(context).Do(
        inputs,
        {key: [getattr(outputs, key)] for key in ("evaluation", "blessing", "slice_report")},
        {"policy": to_json(policy), "example_splits": json.dumps(["eval"])},
    )
    return outputs


def live(model: Any, folder: str, release: Optional[str] = "release 3") -> Any:
    """The model as LiveRelease hands it on."""
    artifact = standard_artifacts.Model()
    artifact.uri = folder
    artifact.id = 7
    artifact.set_int_custom_property("present", 1 if model else 0)
    artifact.set_string_custom_property("release", release or "")
    return artifact


def report_with(folder: Path, slices: SliceTable) -> SliceReport:
    folder.mkdir()
    (folder / "slices.json").write_text(to_json(slices))
    report = SliceReport()
    report.uri = str(folder)
    return report


@pytest.fixture(scope="module")
def worse(examples, model_of, tmp_path_factory) -> Outputs:
    """A candidate that is wrong about card rides in the evening, against the sound model."""
    sound = model_of("")
    baseline = live(sound, sound.uri)
    folder = tmp_path_factory.mktemp("worse")
    return evaluate(folder, examples, model_of("evening"), baseline)


@pytest.fixture(scope="module")
def first(examples, model_of, tmp_path_factory) -> Outputs:
    """A first release: the live model's artifact is there but empty; the label is transformed."""
    policy = POLICY.model_copy(
        update={"label_key": "tips_xf", "preprocessing_functions": ("transform_features",)}
    )
    folder = tmp_path_factory.mktemp("first")
    empty = live(None, str(tmp_path_factory.mktemp("empty")), None)
    return evaluate(folder, examples, model_of(""), empty, policy)


def test_a_model_worse_on_one_slice_is_blocked_with_the_slice_named(worse):
    assert worse.decision.outcome is Outcome.BLOCK
    (item,) = [e for e in worse.evidence("slice:payment_type=Credit Card", "accuracy") if e.effect]
    assert item.outcome is Outcome.BLOCK
    assert item.effect < -0.1
    assert item.interval[1] < 0
    assert item.p_value < 0.001
    assert worse.decision.baseline == "release 3"


def test_slices_where_nothing_changed_are_not_blamed(worse):
    cash = worse.evidence("slice:payment_type=Cash", "accuracy")
    assert {item.outcome for item in cash} == {Outcome.OK}
    (compared,) = [item for item in cash if item.effect is not None]
    assert compared.effect == 0


def test_tiny_slices_are_insufficient_and_block_nothing(worse):
    tiny = worse.evidence("slice:payment_type=Dispute", "accuracy")
    assert tiny
    assert {item.outcome for item in tiny} == {Outcome.INSUFFICIENT_DATA}
    assert "at least 100 are needed" in tiny[0].message


def test_a_watched_slice_absent_today_is_reported(worse):
    (item,) = worse.evidence("slice:payment_type=Barter", "examples")
    assert item.outcome is Outcome.INSUFFICIENT_DATA
    assert "no row of this slice today" in item.message


def test_the_blessing_is_read_by_stock_pusher(worse, first):
    check = PusherExecutor().CheckBlessing
    assert not check({"model_blessing": [worse.blessing]})
    assert check({"model_blessing": [first.blessing]})
    assert [path.name for path in Path(worse.blessing.uri).iterdir()] == ["NOT_BLESSED"]
    assert [path.name for path in Path(first.blessing.uri).iterdir()] == ["BLESSED"]


def test_the_blessing_names_both_models_as_tfx_does(worse, first, model_of):
    blessing = worse.blessing
    assert blessing.get_int_custom_property("blessed") == 0
    assert blessing.get_string_custom_property("current_model") == model_of("evening").uri
    assert blessing.get_int_custom_property("current_model_id") == model_of("evening").id
    assert blessing.get_string_custom_property("baseline_model") == model_of("").uri
    assert blessing.get_int_custom_property("baseline_model_id") == 7
    assert first.blessing.get_int_custom_property("blessed") == 1
    assert not first.blessing.has_custom_property("baseline_model")


def test_the_report_artifact_carries_outcome_and_reason(worse):
    assert worse.slice_report.get_string_custom_property("outcome") == "BLOCK"
    assert worse.slice_report.get_string_custom_property("reason") == worse.decision.reason


def test_without_a_live_model_it_says_so(first):
    assert first.decision.outcome is Outcome.OK
    assert first.decision.baseline is None
    assert "nothing live to compare with" in first.decision.reason
    unchecked = first.evidence("slice:overall", "auc")
    assert [item.outcome for item in unchecked] == [Outcome.INSUFFICIENT_DATA]


def test_a_transformed_label_gives_the_counts_of_the_raw_one(worse, first):
    (paired,) = [item for item in worse.slices.slices if not item.features]
    (alone,) = [item for item in first.slices.slices if not item.features]
    assert alone.n == paired.n == 2500
    assert alone.candidate.counts.confusion == paired.baseline.counts.confusion


def test_counts_agree_with_the_metrics_that_tfma_computed(worse):
    """The standard ModelEvaluation is there, and says what our counts say."""
    for model in ("candidate", "baseline"):
        result = tfma.load_eval_result(worse.evaluation.uri, model_name=model)
        found = dict(result.slicing_metrics)
        for item in worse.slices.slices:
            if item.features.keys() - {"payment_type"}:
                continue
            theirs = found[tuple(item.features.items())][""][""]
            ours = getattr(item, model)
            confusion = ours.counts.confusion
            assert theirs["example_count"]["doubleValue"] == item.n
            assert theirs["binary_accuracy"]["doubleValue"] == pytest.approx(
                confusion.correct / item.n, abs=1e-6
            )
            if min(confusion.positives, confusion.negatives) > 10:
                assert theirs["auc"]["doubleValue"] == pytest.approx(
                    float(auc(*ours.counts.dense()).value), abs=0.003
                )


def test_a_slice_of_the_baselines_own_report_absent_today_is_reported(
    worse, examples_of, model_of, tmp_path, taxi_records
):
    cash = [record for record in taxi_records if b"Cash" in record][:300]
    policy = POLICY.model_copy(update={"slices": ((), ("payment_type",), ("no_one_has",))})
    names = list(SPEC)
    schema = schema_with(names, tmp_path / "schema")
    outputs = evaluate(
        tmp_path,
        examples_of(tmp_path / "cash", cash),
        model_of(""),
        policy=policy,
        schema=schema,
        baseline_report=report_with(tmp_path / "old", worse.slices),
    )
    (item,) = outputs.evidence("slice:payment_type=Credit Card", "examples")
    assert "in the baseline's evaluation" in item.message
    (item,) = outputs.evidence("slice:no_one_has", "examples")
    assert "no row has a value of no_one_has" in item.message


SPEC = {
    "payment_type": schema_pb2.BYTES,
    "no_one_has": schema_pb2.BYTES,
    "trip_start_hour": schema_pb2.INT,
    "big_tipper": schema_pb2.INT,
}


def schema_with(features: list[str], folder: Path) -> standard_artifacts.Schema:
    folder.mkdir()
    schema = schema_pb2.Schema()
    for name in features:
        feature = schema.feature.add(name=name, type=SPEC[name])
        feature.value_count.max = 1
    (folder / "schema.pbtxt").write_text(str(schema))
    artifact = standard_artifacts.Schema()
    artifact.uri = str(folder)
    return artifact


def test_a_model_that_answers_nan_is_refused_by_name_and_count(
    examples, model_of, tmp_path, taxi_rows
):
    free = sum(float(row["fare"]) == 0 for row in taxi_rows)
    with pytest.raises(ModelError, match=rf"candidate model answers NaN for {free} of 2,500 rows"):
        evaluate(tmp_path, examples, model_of("nan"))
    assert not list((tmp_path / "blessing").iterdir())
    assert not list((tmp_path / "slice_report").iterdir())


def test_a_label_that_the_schema_lacks_is_named(examples, model_of, tmp_path):
    schema = schema_with(["payment_type", "trip_start_hour"], tmp_path / "schema")
    with pytest.raises(ConfigError, match="no feature 'big_tipper' in the schema; it has payment"):
        evaluate(tmp_path, examples, model_of(""), schema=schema)


def test_an_unknown_slice_feature_is_named_with_the_valid_ones(examples, model_of, tmp_path):
    policy = POLICY.model_copy(update={"slices": (("payment_typ",),)})
    with pytest.raises(ConfigError, match=r"'payment_typ'.*payment_type") as caught:
        evaluate(tmp_path, examples, model_of(""), policy=policy)
    assert caught.value.key == "evaluation.slices.0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signature_name": "predict"}, "no signature 'predict'; it has serving_default"),
        ({"preprocessing_functions": ("to_xf",)}, "no preprocessing function 'to_xf'"),
    ],
)
def test_a_missing_signature_is_named_with_the_valid_ones(
    change, message, examples, model_of, tmp_path
):
    with pytest.raises(ModelError, match=message):
        evaluate(tmp_path, examples, model_of(""), policy=POLICY.model_copy(update=change))


def test_a_broken_candidate_is_refused_before_anything_runs(examples, tmp_path):
    broken = standard_artifacts.Model()
    broken.uri = str(tmp_path / "model")
    (tmp_path / "model" / "Format-Serving").mkdir(parents=True)
    with pytest.raises(ModelError, match="candidate model has no SavedModel"):
        evaluate(tmp_path, examples, broken)
    (tmp_path / "model" / "Format-Serving" / "saved_model.pb").write_bytes(b"\xff\x00 no proto")
    for folder in ("evaluation", "blessing", "slice_report"):
        (tmp_path / folder).rmdir()
    with pytest.raises(ModelError, match="is not a SavedModel"):
        evaluate(tmp_path, examples, broken)


def test_no_rows_and_unreadable_rows_are_errors(examples_of, model_of, tmp_path, taxi_records):
    with pytest.raises(DataError, match="no rows to evaluate on in the splits eval"):
        evaluate(tmp_path, examples_of(tmp_path / "none", []), model_of(""))
    broken = examples_of(tmp_path / "broken", taxi_records[:500])
    file = next(Path(broken.uri, "Split-eval").iterdir())
    file.write_bytes(file.read_bytes()[:-20])
    for folder in ("evaluation", "blessing", "slice_report"):
        (tmp_path / folder).rmdir()
    with pytest.raises(DataError, match="cannot be read"):
        evaluate(tmp_path, broken, model_of(""))


def test_the_component_passes_its_policy_as_one_string() -> None:
    model = channel.Channel(type=standard_artifacts.Model)
    component = SlicedEvaluator(
        channel.Channel(type=standard_artifacts.Examples), model, policy=POLICY
    )
    assert from_json(EvaluationPolicy, component.exec_properties["policy"]) == POLICY
    assert component.exec_properties["example_splits"] == '["eval"]'
    assert sorted(component.outputs) == ["blessing", "evaluation", "slice_report"]
