"""VersionedPusher: what it refuses, what it pushes, what it tells ML Metadata."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
from tfx import types
from tfx.types import standard_artifacts

from tfx_encore.components.versioned_pusher import executor
from tfx_encore.components.versioned_pusher.component import VersionedPusher
from tfx_encore.metadata.fingerprint import fingerprint_saved_model
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.artifacts import (
    CacheInvalidation,
    CacheSnapshot,
    DriftReport,
    SliceReport,
)
from tfx_encore.schemas.decisions import Decision, Outcome
from tfx_encore.schemas.errors import ConfigError, DataError, ModelError, ReleaseCorruptError
from tfx_encore.schemas.records import InvalidationRecord
from tfx_encore.schemas.release import Certificate, Provenance
from tfx_encore.schemas.release_policy import ReleasePolicy
from tfx_encore.schemas.serial import from_json, to_json

Artifacts = dict[str, list[types.Artifact]]
Make = Callable[..., types.Artifact]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes an artifact with a directory, files and custom properties."""
    count = iter(range(1, 1000))

    def artifact(
        kind: type, files: Optional[dict[str, str]] = None, **properties: Any
    ) -> types.Artifact:
        made = kind()
        made.id = next(count)
        made.uri = str(tmp_path / "artifacts" / str(made.id))
        Path(made.uri).mkdir(parents=True)
        for name, content in (files or {}).items():
            (Path(made.uri) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(made.uri) / name).write_text(content)
        for name, value in properties.items():
            setter = {int: "int", float: "float", str: "string"}[type(value)]
            getattr(made, f"set_{setter}_custom_property")(name, value)
        return made

    return artifact


@pytest.fixture
def model_of(make: Make) -> Callable[[str], types.Artifact]:
    def model(content: str) -> types.Artifact:
        return make(
            standard_artifacts.Model,
            {
                "Format-Serving/saved_model.pb": content,
                "Format-Serving/variables/variables.index": "index",
            },
        )

    return model


@pytest.fixture
def releases(tmp_path: Path) -> ReleaseDirectory:
    return ReleaseDirectory(tmp_path / "releases", "taxi")


def decision(outcome: Outcome, gate: str = "drift") -> dict[str, str]:
    return {"decision.json": to_json(Decision(gate, outcome, f"{gate} says {outcome.value}"))}


def push(
    releases: ReleaseDirectory,
    make: Make,
    inputs: dict[str, types.Artifact],
    blessings: Optional[dict[str, Optional[types.Artifact]]] = None,
    policy: Optional[ReleasePolicy] = None,
    provenance: Optional[Provenance] = None,
) -> tuple[types.Artifact, types.Artifact]:
    """Runs the executor; returns `pushed_model` and `invalidation`."""
    outputs: Artifacts = {
        executor.PUSHED_MODEL: [make(standard_artifacts.PushedModel)],
        executor.INVALIDATION: [make(CacheInvalidation)],
    }
    given: Artifacts = {key: [artifact] for key, artifact in inputs.items()}
    for name, artifact in (blessings or {}).items():
        given[f"blessing_{name}"] = [artifact] if artifact else []
    properties = {
        executor.RELEASES: str(releases.path.parent),
        executor.MODEL_NAME: "taxi",
        executor.BLESSINGS: json.dumps(list(blessings or {})),
        executor.POLICY: to_json(policy or ReleasePolicy()),
        executor.PROVENANCE: to_json(provenance or Provenance()),
        executor.NONCE: "1",
    }
    executor.Executor().Do(given, outputs, properties)
    return outputs[executor.PUSHED_MODEL][0], outputs[executor.INVALIDATION][0]


def records_of(artifact: types.Artifact) -> list[InvalidationRecord]:
    lines = (Path(artifact.uri) / "records.jsonl").read_text().splitlines()
    return [from_json(InvalidationRecord, line) for line in lines]


def test_without_blessings_it_pushes_and_says_what_tfx_says(
    releases: ReleaseDirectory, make: Make, model_of: Callable[[str], types.Artifact]
) -> None:
    pushed, invalidation = push(releases, make, {"model": model_of("a")})
    assert releases.live() == 1
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_version") == "1"
    assert pushed.get_string_custom_property("pushed_destination") == str(releases.version_path(1))
    assert pushed.get_int_custom_property("version") == 1
    assert pushed.get_string_custom_property("fingerprint") == releases.manifest(1).fingerprint
    assert fingerprint_saved_model(pushed.uri) == releases.manifest(1).fingerprint
    assert invalidation.get_int_custom_property("records") == 0
    assert not invalidation.has_custom_property("payload")
    assert records_of(invalidation) == []


def test_a_second_push_publishes_the_same_record_as_the_journal(
    releases: ReleaseDirectory, make: Make, model_of: Callable[[str], types.Artifact]
) -> None:
    push(releases, make, {"model": model_of("a")})
    _, invalidation = push(releases, make, {"model": model_of("b")})
    assert records_of(invalidation) == list(releases.records())
    assert invalidation.get_string_custom_property("model") == "taxi"
    assert invalidation.get_int_custom_property("records") == 1
    assert invalidation.get_int_custom_property("first_sequence") == 1
    assert invalidation.get_int_custom_property("last_sequence") == 1
    assert invalidation.get_string_custom_property("cause") == "MODEL_PUSHED"
    payload = invalidation.get_string_custom_property("payload")
    assert from_json(InvalidationRecord, payload.strip()) == releases.records()[0]


@pytest.mark.parametrize("live", [{"present": 0}, {"present": 1, "version": 1.0}])
def test_a_model_judged_against_what_is_no_longer_live_is_refused(
    releases: ReleaseDirectory,
    make: Make,
    model_of: Callable[[str], types.Artifact],
    live: dict[str, float],
) -> None:
    for content in ("a", "b"):
        push(releases, make, {"model": model_of(content)})
    judged = {"live_model": make(standard_artifacts.Model, **live)}
    pushed, invalidation = push(releases, make, {"model": model_of("c"), **judged})
    assert pushed.get_int_custom_property("pushed") == 0
    assert "now version 2 is" in pushed.get_string_custom_property("reason")
    assert releases.versions() == (1, 2)
    assert records_of(invalidation) == []


def test_a_model_judged_against_what_is_live_is_pushed(
    releases: ReleaseDirectory, make: Make, model_of: Callable[[str], types.Artifact]
) -> None:
    for content, live in (("a", {"present": 0}), ("b", {"present": 1, "version": 1})):
        judged = {"live_model": make(standard_artifacts.Model, **live)}
        push(releases, make, {"model": model_of(content), **judged})
    assert releases.live() == 2


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.WARN, Outcome.INSUFFICIENT_DATA])
def test_every_outcome_but_block_allows_the_push(
    releases: ReleaseDirectory,
    make: Make,
    model_of: Callable[[str], types.Artifact],
    outcome: Outcome,
) -> None:
    drift = make(DriftReport, decision(outcome), outcome=outcome.value)
    push(releases, make, {"model": model_of("a")}, {"drift": drift})
    assert releases.live() == 1


def refusing(make: Make) -> dict[str, Optional[types.Artifact]]:
    """One blessing of each kind that stands in the way."""
    block = decision(Outcome.BLOCK)
    return {
        "missing": None,
        "empty_report": make(DriftReport, outcome="OK"),
        "truncated": make(DriftReport, {"decision.json": '{"gate": "dri'}, outcome="OK"),
        "blocks": make(DriftReport, block, outcome="BLOCK", reason="fare moved"),
        "blocks_in_the_file": make(SliceReport, block, outcome="OK"),
        "blocks_by_property": make(standard_artifacts.HyperParameters, outcome="BLOCK"),
        "not_blessed": make(standard_artifacts.ModelBlessing, blessed=0),
        "infra": make(standard_artifacts.InfraBlessing, blessed=0),
        "says_nothing": make(standard_artifacts.ModelBlessing),
        "unknown_outcome": make(standard_artifacts.HyperParameters, outcome="FINE"),
        "other_model": make(standard_artifacts.ModelBlessing, blessed=1, current_model="/other"),
    }


def test_a_refusal_names_every_reason_and_touches_nothing(
    releases: ReleaseDirectory, make: Make, model_of: Callable[[str], types.Artifact]
) -> None:
    push(releases, make, {"model": model_of("a")})
    before = sorted((p, p.stat().st_mtime_ns) for p in releases.path.rglob("*"))
    pushed, invalidation = push(releases, make, {"model": model_of("b")}, refusing(make))
    reason = pushed.get_string_custom_property("reason")
    assert pushed.get_int_custom_property("pushed") == 0
    assert not pushed.has_custom_property("version")
    assert list(Path(pushed.uri).iterdir()) == []
    for said in (
        "missing: it is missing: no artifact came",
        "empty_report: it cannot be read",
        "truncated: it cannot be read",
        "blocks: BLOCK: drift says BLOCK",
        "blocks_in_the_file: BLOCK: drift says BLOCK",
        "blocks_by_property: BLOCK",
        "not_blessed: it is not blessed",
        "infra: it is not blessed",
        "says_nothing: it says neither `blessed` nor `outcome`",
        "unknown_outcome: its outcome 'FINE' is not one of",
        "other_model: it blesses another model, /other",
    ):
        assert said in reason
    assert invalidation.get_int_custom_property("records") == 0
    assert records_of(invalidation) == []
    assert sorted((p, p.stat().st_mtime_ns) for p in releases.path.rglob("*")) == before


@pytest.mark.parametrize("name", list(refusing(lambda *_a, **_k: None)))
def test_each_refusal_is_enough_beside_blessings_that_allow(
    releases: ReleaseDirectory,
    make: Make,
    model_of: Callable[[str], types.Artifact],
    name: str,
) -> None:
    drift = make(DriftReport, decision(Outcome.OK), outcome="OK")
    blessings = {"drift": drift, name: refusing(make)[name]}
    pushed, _ = push(releases, make, {"model": model_of("a")}, blessings)
    assert pushed.get_int_custom_property("pushed") == 0
    assert name in pushed.get_string_custom_property("reason")
    assert releases.live() is None


@pytest.mark.parametrize("blessed", [1, 1.0])
def test_stock_blessings_allow_also_when_kubeflow_makes_floats_of_integers(
    releases: ReleaseDirectory,
    make: Make,
    model_of: Callable[[str], types.Artifact],
    blessed: float,
) -> None:
    model = model_of("a")
    blessings = {
        "model": make(standard_artifacts.ModelBlessing, blessed=blessed, current_model=model.uri),
        "infra": make(standard_artifacts.InfraBlessing, blessed=blessed),
    }
    push(releases, make, {"model": model}, blessings)
    assert releases.live() == 1


def test_the_manifest_gathers_decisions_certificate_lineage_and_tools(
    releases: ReleaseDirectory, make: Make, model_of: Callable[[str], types.Artifact]
) -> None:
    model = model_of("a")
    certificate = Certificate("serving_default", True, True, 64, "independent")
    drift = make(DriftReport, decision(Outcome.WARN) | {"charts.json": "[]"}, outcome="WARN")
    slices = make(SliceReport, decision(Outcome.OK, "sliced_evaluation"), outcome="OK")
    own_gate = make(standard_artifacts.HyperParameters, decision(Outcome.OK, "latency"))
    snapshot = make(
        CacheSnapshot,
        {
            "certificate.json": to_json(certificate),
            "tf_serving_warmup_requests": "requests",
            "answers": "bytes",
        },
        fingerprint=fingerprint_saved_model(f"{model.uri}/Format-Serving"),
    )
    inputs = {
        "model": model,
        "statistics": make(
            standard_artifacts.ExampleStatistics, {"Split-train/FeatureStats.pb": "s"}
        ),
        "schema": make(standard_artifacts.Schema, {"curated.pbtxt": "feature {}"}),
        "drift_report": drift,
        "slice_report": slices,
        "snapshot": snapshot,
        "evaluation": make(standard_artifacts.ModelEvaluation, {"metrics": "m"}),
    }
    provenance = Provenance(run_id="run-1", inputs_digest="sha256:1")
    blessings = {"drift": drift, "latency": own_gate}
    push(releases, make, inputs, blessings, provenance=provenance)
    manifest = releases.manifest(1)
    assert [found.gate for found in manifest.decisions] == ["drift", "sliced_evaluation", "latency"]
    assert manifest.certificate == certificate
    assert (manifest.run_id, manifest.inputs_digest) == ("run-1", "sha256:1")
    assert manifest.lineage == {
        **{key: artifact.id for key, artifact in inputs.items()},
        "blessing_drift": drift.id,
        "blessing_latency": own_gate.id,
    }
    assert sorted(manifest.evidence) == [
        "drift_report/charts.json",
        "drift_report/decision.json",
        "evaluation/metrics",
        "schema.pbtxt",
        "slice_report/decision.json",
        "snapshot/answers",
        "snapshot/certificate.json",
        "snapshot/tf_serving_warmup_requests",
        "statistics/Split-train/FeatureStats.pb",
    ]
    assert manifest.schema_digest == manifest.evidence["schema.pbtxt"]
    assert {"tfx", "tensorflow", "tfx_encore", "python"} <= set(manifest.versions_of)
    warmup = releases.version_path(1) / "assets.extra" / "tf_serving_warmup_requests"
    assert warmup.read_text() == "requests"
    assert releases.verify() == []


def test_a_snapshot_of_another_model_stops_the_push(
    releases: ReleaseDirectory, make: Make, model_of: Callable[[str], types.Artifact]
) -> None:
    snapshot = make(CacheSnapshot, {"answers": "bytes"}, fingerprint="sha256:other")
    with pytest.raises(ModelError, match="not sha256:other"):
        push(releases, make, {"model": model_of("a"), "snapshot": snapshot})
    assert releases.live() is None


def test_an_empty_warm_up_file_is_left_out(
    releases: ReleaseDirectory, make: Make, model_of: Callable[[str], types.Artifact]
) -> None:
    snapshot = make(CacheSnapshot, {"tf_serving_warmup_requests": ""})
    push(releases, make, {"model": model_of("a"), "snapshot": snapshot})
    assert not (releases.version_path(1) / "assets.extra").exists()


def test_the_policy_says_which_label_moves_and_how_much_stays(
    releases: ReleaseDirectory, make: Make, model_of: Callable[[str], types.Artifact]
) -> None:
    push(releases, make, {"model": model_of("a")})
    policy = ReleasePolicy(label="canary", keep_versions=1)
    for content in "bc":
        push(releases, make, {"model": model_of(content)}, policy=policy)
    assert releases.labels() == {"stable": 1, "canary": 3}
    assert releases.versions() == (1, 3)


def test_an_execution_that_was_never_published_gives_its_records_again(
    releases: ReleaseDirectory, make: Make, model_of: Callable[[str], types.Artifact]
) -> None:
    push(releases, make, {"model": model_of("a")})
    run = Provenance(run_id="run-2")
    _, lost = push(releases, make, {"model": model_of("b")}, provenance=run)
    pushed, again = push(releases, make, {"model": model_of("b")}, provenance=run)
    assert records_of(again) == records_of(lost)
    assert again.get_int_custom_property("repeated") == 1
    assert lost.get_int_custom_property("repeated") == 0
    assert pushed.get_int_custom_property("pushed") == 0
    assert pushed.get_string_custom_property("pushed_version") == "2"
    assert len(releases.records()) == 1


def test_a_bare_saved_model_is_pushed_as_well(releases: ReleaseDirectory, make: Make) -> None:
    push(releases, make, {"model": make(standard_artifacts.Model, {"saved_model.pb": "graph"})})
    assert (releases.version_path(1) / "saved_model.pb").read_text() == "graph"


def test_a_model_artifact_without_a_saved_model_is_named(
    releases: ReleaseDirectory, make: Make
) -> None:
    with pytest.raises(DataError, match="Format-Serving does not exist"):
        push(releases, make, {"model": make(standard_artifacts.Model)})
    empty = make(standard_artifacts.Model, {"Format-Serving/notes.txt": "?"})
    with pytest.raises(ModelError, match=r"holds no saved_model\.pb"):
        push(releases, make, {"model": empty})
    assert not releases.path.exists()


def test_a_schema_artifact_with_two_files_is_refused(
    releases: ReleaseDirectory, make: Make, model_of: Callable[[str], types.Artifact]
) -> None:
    schema = make(standard_artifacts.Schema, {"a.pbtxt": "", "b.pbtxt": ""})
    with pytest.raises(DataError, match="holds 2 files"):
        push(releases, make, {"model": model_of("a"), "schema": schema})


def test_a_damaged_release_directory_fails_the_run(
    releases: ReleaseDirectory, make: Make, model_of: Callable[[str], types.Artifact]
) -> None:
    push(releases, make, {"model": model_of("a")})
    (releases.path / "labels.json").write_text("{")
    with pytest.raises(ReleaseCorruptError, match=r"labels\.json"):
        push(releases, make, {"model": model_of("b")})


def test_each_instance_has_the_inputs_of_its_own_blessings() -> None:
    def pusher(names: tuple[str, ...]) -> VersionedPusher:
        channel = types.Channel(type=standard_artifacts.ModelBlessing)
        model = types.Channel(type=standard_artifacts.Model)
        return VersionedPusher(
            model=model,
            releases="/r",
            model_name="taxi",
            blessings=dict.fromkeys(names, channel),
        )

    first, second = pusher(("drift", "model")), pusher(("infra",))
    assert sorted(first.inputs) == ["blessing_drift", "blessing_model", "model"]
    assert sorted(second.inputs) == ["blessing_infra", "model"]
    assert first.exec_properties["nonce"] != second.exec_properties["nonce"]
    assert VersionedPusher.READS_WORLD


@pytest.mark.parametrize("name", ["", "Drift", "a-b", "1st", "a b"])
def test_a_name_that_cannot_be_a_blessings_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a blessing"):
        VersionedPusher(
            model=types.Channel(type=standard_artifacts.Model),
            releases="/r",
            model_name="taxi",
            blessings={name: types.Channel(type=standard_artifacts.ModelBlessing)},
        )
