"""TrendMonitor in a real TFX pipeline, with nights in a real store."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb
from tfx import types
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline

from tfx_encore.components import TrendMonitor
from tfx_encore.components.trend_monitor.executor import Executor
from tfx_encore.metadata.night_store import SLICES, NightStore
from tfx_encore.monitoring.night_slices import NightSlices, PathCounts, ServedSlice
from tfx_encore.monitoring.slice_counts import SliceCounts, row_code
from tfx_encore.monitoring.slice_report import slice_table
from tfx_encore.monitoring.trend_judgement import TrendJudgement
from tfx_encore.schemas.artifacts import NightStatistics, SliceReport, TrendReport
from tfx_encore.schemas.decisions import Decision, Outcome
from tfx_encore.schemas.errors import ConfigError, DataError
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import TrendPolicy
from tfx_encore.schemas.serial import from_json, to_json

EVALUATION = EvaluationPolicy(label_key="label", slices=((), ("device",)))
POLICY = TrendPolicy(metrics=("recall",))
START = dt.date(2016, 1, 4)


def date(number: int) -> str:
    return (START + dt.timedelta(number)).isoformat()


class Nights:
    """A release directory's nights, tonight's artifact and the release's report, on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rng = np.random.default_rng(1)
        self.store = NightStore(folder / "releases", "taxi")
        for name in ("tonight", "slice_report"):
            (folder / name).mkdir()
        table = {(): SliceCounts(0.5, self.rows(0.9, 20_000))}
        made = slice_table(table, threshold=0.5, confidence=0.95, baseline=None)
        (folder / "slice_report" / SLICES).write_text(to_json(made))

    def rows(self, recall: float, positives: int = 300) -> dict[int, int]:
        found = int(self.rng.binomial(positives, recall))
        return {row_code(1, 220): found, row_code(1, 100): positives - found}

    def night(self, recall: float, fingerprint: str) -> NightSlices:
        item = ServedSlice(fingerprint, 1, {}, {"hit": PathCounts(self.rows(recall))})
        return NightSlices(0.5, (item,))

    def commit(self, number: int, recall: float, fingerprint: str = "sha256:new") -> None:
        content = to_json(self.night(recall, fingerprint)).encode()
        with self.store.writing():
            self.store.commit(date(number), {SLICES: content})

    def tonight(self, recall: float, fingerprint: str = "sha256:new") -> None:
        (self.folder / "tonight" / SLICES).write_text(to_json(self.night(recall, fingerprint)))

    def judge(
        self, number: int, *, release: bool = True, fingerprint: str = "sha256:new"
    ) -> tuple[types.Artifact, Decision, TrendJudgement]:
        statistics, report, out = NightStatistics(), SliceReport(), TrendReport()
        statistics.uri, report.uri = (str(self.folder / n) for n in ("tonight", "slice_report"))
        report.set_string_custom_property("release", "release 3")
        report.set_string_custom_property("fingerprint", fingerprint)
        out.uri = str(self.folder / "report")
        component = TrendMonitor(
            statistics=types.Channel(type=NightStatistics),
            date=date(number),
            releases=str(self.folder / "releases"),
            model_name="taxi",
            evaluation=EVALUATION,
            policy=POLICY,
        )
        inputs = {"statistics": [statistics], **({"slice_report": [report]} if release else {})}
        Executor().Do(inputs, {"report": [out]}, component.exec_properties)
        decision = (self.folder / "report" / "decision.json").read_bytes()
        trends = (self.folder / "report" / "trends.json").read_bytes()
        return out, from_json(Decision, decision), from_json(TrendJudgement, trends)


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    return Nights(tmp_path)


def test_in_a_pipeline_decay_over_stored_nights_becomes_a_report(nights: Nights) -> None:
    for number in range(40):
        nights.commit(number, 0.9 - 0.0012 * number)
    nights.tonight(0.85)
    for _ in range(2):  # TFX's cache never answers for it; a node belongs to one pipeline only
        statistics = Importer(str(nights.folder / "tonight"), NightStatistics).with_id("Night")
        report = Importer(
            str(nights.folder / "slice_report"),
            SliceReport,
            custom_properties={"release": "release 3", "fingerprint": "sha256:new"},
        ).with_id("Live")
        monitor = TrendMonitor(
            statistics=statistics.outputs["result"],
            date=date(40),
            releases=str(nights.folder / "releases"),
            model_name="taxi",
            evaluation=EVALUATION,
            slice_report=report.outputs["result"],
            policy=POLICY,
        )
        database = sqlite_metadata_connection_config(str(nights.folder / "metadata.db"))
        LocalDagRunner().run(
            Pipeline(
                "nightly",
                str(nights.folder / "root"),
                components=[statistics, report, monitor],
                enable_cache=True,
                metadata_connection_config=database,
            )
        )
    store = metadata_store.MetadataStore(database)
    executions = store.get_executions_by_type(f"{TrendMonitor.__module__}.TrendMonitor")
    assert [e.last_known_state for e in executions] == [pb.Execution.COMPLETE] * 2
    first, second = store.get_artifacts_by_type("tfx_encore.TrendReport")
    assert first.custom_properties["outcome"].string_value == "BLOCK"
    contents = [(Path(a.uri) / "trends.json").read_bytes() for a in (first, second)]
    assert contents[0] == contents[1]
    judgement = from_json(TrendJudgement, contents[0])
    assert judgement.decision.baseline == "release 3"
    assert judgement.series[0].alarm
    assert judgement.series[0].followed == 41


def test_later_nights_and_those_of_other_releases_are_not_looked_at(nights: Nights) -> None:
    for number in range(10):
        nights.commit(number, 0.6, fingerprint="sha256:old")
    for number in range(10, 20):
        nights.commit(number, 0.9)
    for number in range(21, 40):
        nights.commit(number, 0.5)
    nights.tonight(0.9)
    _, decision, judgement = nights.judge(20)
    assert decision.outcome is Outcome.OK
    assert judgement.series[0].dates == tuple(date(number) for number in range(10, 21))


def test_tonight_counts_as_given_not_as_stored_before(nights: Nights) -> None:
    for number in range(6):
        nights.commit(number, 0.9)
    nights.commit(6, 0.2)
    nights.tonight(0.9)
    _, decision, judgement = nights.judge(6)
    assert decision.outcome is Outcome.OK
    assert judgement.series[0].values[-1] > 0.8


def test_without_the_release_its_first_nights_are_the_reference(nights: Nights) -> None:
    for number in range(20):
        nights.commit(number, 0.9)
    nights.tonight(0.9)
    out, decision, judgement = nights.judge(20, release=False)
    assert decision.outcome is Outcome.OK
    assert judgement.series[0].reference_kind == "first nights"
    assert out.get_string_custom_property("reason") == decision.reason


def test_a_report_of_a_release_that_did_not_answer_is_no_reference(nights: Nights) -> None:
    nights.tonight(0.9)
    _, decision, judgement = nights.judge(0, fingerprint="sha256:another")
    assert decision.outcome is Outcome.INSUFFICIENT_DATA
    assert judgement.series[0].reference is None


def test_a_log_that_names_no_model_is_held_against_what_is_live(nights: Nights) -> None:
    for number in range(5):
        nights.commit(number, 0.9, fingerprint="")
    nights.tonight(0.9, fingerprint="")
    _, decision, judgement = nights.judge(5)
    assert decision.baseline == "release 3"
    assert judgement.series[0].followed == 6


def test_a_broken_night_is_named(nights: Nights) -> None:
    with nights.store.writing():
        nights.store.commit(date(0), {SLICES: b'{"sha256:new": 1}'})
    nights.tonight(0.9)
    with pytest.raises(DataError, match=date(0)):
        nights.judge(1)


def test_statistics_without_slices_are_refused(nights: Nights) -> None:
    with pytest.raises(DataError, match="LoggedEvaluator"):
        nights.judge(1)


def test_an_impossible_model_name_is_refused() -> None:
    with pytest.raises(ConfigError):
        TrendMonitor(
            statistics=types.Channel(type=NightStatistics),
            date="2016-01-12",
            releases="/releases",
            model_name="../taxi",
            evaluation=EVALUATION,
        )
    assert TrendMonitor.READS_WORLD
