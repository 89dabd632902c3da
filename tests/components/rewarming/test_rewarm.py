"""What a snapshot was worth for a night, and a better one made of the night's traffic."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfx_encore.cache.snapshot import read_meta, verify_snapshot
from tfx_encore.components import SnapshotCoverage
from tfx_encore.components.rewarming import rewarm as rewarming
from tfx_encore.components.rewarming.executor import Executor
from tfx_encore.components.rewarming.measuring import measure_coverage
from tfx_encore.components.rewarming.rewarm import rewarm
from tfx_encore.metadata.files import digests_below
from tfx_encore.metadata.night_snapshots import NightSnapshots, snapshots_of
from tfx_encore.metadata.release_layout import SNAPSHOT
from tfx_encore.pipeline.beam_options import beam_args
from tfx_encore.schemas.artifacts import CoverageReport, RequestLogReport
from tfx_encore.schemas.errors import DataError, ModelError
from tfx_encore.schemas.nights import LogReport, NightCoverage
from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll
from tfx_encore.schemas.serial import from_json, to_json
from tfx_encore.schemas.warmup_policy import WarmupPolicy

POLICY = WarmupPolicy(certify_rows=8)
NIGHT = "2016-01-12"


def evidence_of(releases):
    return releases.evidence_path(1) / SNAPSHOT


def newest_of(releases):
    fingerprint = releases.manifest(1).fingerprint
    return snapshots_of(releases.path.parent, "taxi", 1, fingerprint)[0]


def test_coverage_is_the_share_of_rows_whose_key_the_snapshot_holds(
    released, make_pipeline, write_log, tmp_path
):
    releases = released()
    log = [write_log(tmp_path / "a", [0, 1, 2, 50]), write_log(tmp_path / "b", [50, 51, 0, 0])]
    found = measure_coverage(make_pipeline, evidence_of(releases), log)
    assert found == NightCoverage(5 / 8, 1.0, 10, str(evidence_of(releases)))


def test_requests_that_the_snapshot_was_not_made_for_are_not_counted(
    released, make_pipeline, write_log, tmp_path
):
    releases = released()
    other = write_log(tmp_path / "other", [1, 2], signature="another")
    assert measure_coverage(make_pipeline, evidence_of(releases), [other]) is None
    assert measure_coverage(make_pipeline, evidence_of(releases), []) is None


def test_a_new_snapshot_covers_the_night_and_the_releases_evidence_stays(
    released, make_pipeline, write_log, tmp_path
):
    releases = released()
    before = digests_below(evidence_of(releases))
    log = [write_log(tmp_path / "log", [50, 51, 52, 53] * 10)]
    made = rewarm(make_pipeline, releases, 1, NIGHT, log, policy=POLICY)
    assert (made.entries, made.hit_rate) == (4, 1.0)
    assert newest_of(releases) == made.path
    assert made.path.name.startswith(NIGHT)
    verify_snapshot(str(made.path))
    assert measure_coverage(make_pipeline, made.path, log).covered == 1.0
    assert measure_coverage(make_pipeline, made.path, log).expected == 1.0
    assert digests_below(evidence_of(releases)) == before
    assert releases.verify() == []
    assert releases.leftovers() == []


def test_the_snapshot_knows_the_invalidation_records_before_it(
    released, make_pipeline, write_log, tmp_path, monkeypatch
):
    """One that comes while answers are computed withdraws them."""
    releases = released()
    draft = RecordDraft("taxi", Cause.MANUAL, SelectAll(), "test", "test")
    known = releases.append_record(draft)
    real = rewarming.warm

    def slow(*args, **named):
        releases.append_record(draft)
        return real(*args, **named)

    monkeypatch.setattr(rewarming, "warm", slow)
    log = [write_log(tmp_path / "log", [1, 2, 3] * 5)]
    made = rewarm(make_pipeline, releases, 1, NIGHT, log, policy=POLICY)
    assert read_meta(str(made.path)).generation == known.sequence


def test_a_model_that_must_not_be_cached_keeps_what_it_has(
    released, make_pipeline, write_log, tmp_path
):
    releases = released("random")
    log = [write_log(tmp_path / "log", [1, 2, 3] * 5)]
    with pytest.raises(ModelError, match="not warmed anew"):
        rewarm(make_pipeline, releases, 1, NIGHT, log, policy=POLICY)
    store = NightSnapshots(releases.path.parent, "taxi", releases.manifest(1).fingerprint)
    assert store.newest() is None
    assert [path.name for path in store.home.iterdir()] == []


def test_without_a_log_the_old_snapshot_stays(released, make_pipeline):
    releases = released()
    with pytest.raises(DataError, match=f"night {NIGHT} has no request log left"):
        rewarm(make_pipeline, releases, 1, NIGHT, [], policy=POLICY)
    assert newest_of(releases) == evidence_of(releases)


class TestSnapshotCoverage:
    """The component."""

    @pytest.fixture
    def execute(self, tmp_path):
        def run(log_files, version=None):
            report = CoverageReport()
            report.uri = str(tmp_path / "report")
            Path(report.uri).mkdir()
            inputs = {}
            if version is not None:
                log = RequestLogReport()
                log.uri = str(tmp_path / "log_report")
                Path(log.uri).mkdir()
                content = to_json(LogReport(rows=3, rows_by_version={str(version): 3}))
                Path(log.uri, "log.json").write_text(content)
                inputs["log_report"] = [log]
            component = SnapshotCoverage(str(tmp_path / "releases"), "taxi", log_files, nonce="1")
            context = Executor.Context(
                beam_pipeline_args=[*beam_args("FnApiRunner")], tmp_dir=str(tmp_path), unique_id="1"
            )
            Executor(context).Do(inputs, {"coverage": [report]}, component.exec_properties)
            path = Path(report.uri, "coverage.json")
            return report, from_json(NightCoverage, path.read_bytes()) if path.exists() else None

        return run

    def test_measures_the_newest_snapshot_of_the_version_that_served(
        self, released, execute, write_log, tmp_path
    ):
        released()
        report, found = execute([write_log(tmp_path / "log", [1, 60])], version=1)
        assert (found.covered, found.entries) == (0.5, 10)
        assert report.get_int_custom_property("present") == 1

    def test_says_nothing_of_a_version_that_was_never_released_here(
        self, released, execute, write_log, tmp_path
    ):
        released()
        report, found = execute([write_log(tmp_path / "log", [1])], version=44)
        assert found is None
        assert report.get_int_custom_property("present") == 0

    def test_is_never_answered_by_tfxs_cache(self):
        nonces = {SnapshotCoverage("r", "taxi", []).exec_properties["nonce"] for _ in range(2)}
        assert len(nonces) == 2
