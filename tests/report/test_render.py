"""The page as text."""

import dataclasses
import itertools
import re

import pytest

from tfx_encore.pipeline.report import build
from tfx_encore.pipeline.report.data import ReleaseReport, StepTime
from tfx_encore.schemas.charts import FeatureChart
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome


def test_equal_reports_give_equal_pages(released):
    assert build.render(released) == build.render(released)


def test_the_page_names_no_other_resource(released, refused):
    for report in (released, refused):
        page = build.render(report)
        assert not re.search(r'(?:src|href)="(?!#|data:)', page.replace("src=x", ""))
        assert not re.search(r"@import|url\((?!#)|https?://", page)
        assert "<script" not in page


def test_hostile_names_are_escaped_everywhere(hostile):
    report = ReleaseReport(
        model=hostile,
        decisions=(
            Decision(hostile, Outcome.BLOCK, hostile, hostile,
                     (Evidence(hostile, hostile, Outcome.BLOCK, hostile, effect=1.0),)),
            Decision("sliced_evaluation", Outcome.OK, "", "x",
                     (Evidence(f"slice:{hostile}", hostile, Outcome.OK, hostile, effect=0.1,
                               value=0.3, baseline=0.2, interval=(0.0, 0.2)),)),
        ),
        charts=(FeatureChart(hostile, "categorical", (1.0,), labels=(hostile,)),),
        steps=(StepTime(hostile, 1.0),),
        lineage={hostile: 3},
    )  # fmt: skip
    page = build.render(report)
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") >= 10


def test_headings_descend_without_gaps(released, refused, first_release):
    for report in (released, refused, first_release):
        levels = [int(level) for level in re.findall(r"<h([1-6])", build.render(report))]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_ids_are_unique_on_the_page(released, refused):
    for report in (released, refused):
        ids = re.findall(r'\bid="([^"]+)"', build.render(report))
        assert len(ids) == len(set(ids))


def test_an_empty_section_says_what_would_stand_there(first_release):
    page = build.render(first_release)
    for part in (
        "drift_report/charts.json",
        "slice_report/decision.json",
        "coverage/coverage.json",
    ):
        assert part in page
    assert "First release" not in page
    assert "A first release has none to withdraw" in page
    assert "There was nothing to compare with" in page


def test_a_refused_release_says_that_no_answer_was_withdrawn(refused):
    page = build.render(refused)
    assert "Refused" in page
    assert "no new version" in page
    assert "every cached answer stays valid" in page


def test_schema_anomalies_are_listed(released):
    page = build.render(dataclasses.replace(released, anomalies=("fare (train): <b>bad</b>",)))
    assert "fare (train): &lt;b&gt;bad&lt;/b&gt;" in page
    assert "Schema anomalies" not in build.render(released)


def test_lineage_gives_whole_digests(released):
    page = build.render(released)
    manifest = released.manifest
    for digest in (manifest.fingerprint, manifest.schema_digest, manifest.spans[0].digest):
        assert digest in page
    assert "learning_rate" in page
    assert "artifact 23" in page


def test_twenty_features_and_sixty_slices_stay_below_a_megabyte(released):
    features = tuple(
        dataclasses.replace(chart, feature=f"{chart.feature}_{i}")
        for i in range(2)
        for chart in released.charts
    )
    slices = released.decisions[1]
    many = tuple(
        dataclasses.replace(item, subject=f"{item.subject} {copy}", measure=f"m{m}")
        for m in range(4)
        for copy in range(5)
        for item in slices.evidence[:12]
    )
    report = dataclasses.replace(
        released,
        charts=features,
        decisions=(released.decisions[0], dataclasses.replace(slices, evidence=many)),
    )
    assert len(report.charts) >= 20
    assert len(build.render(report).encode()) < 1_000_000


def test_a_feature_without_values_is_said_to_have_none(released):
    empty = FeatureChart("pickup_census_tract", "categorical", (), missing=1.0, n=5512)
    page = build.render(dataclasses.replace(released, charts=(empty,)))
    assert "No values to draw" in page


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
@pytest.mark.parametrize("side", ["current", "baseline"])
def test_a_feature_whose_values_vanished_or_appeared_is_drawn(released, kind, side):
    chart = FeatureChart(
        "f", kind, **{"current": (), "baseline": (), side: (0.5, 0.5)},
        edges=(0.0, 1.0, 2.0), labels=("a", "b"), n=10, n_baseline=10,
    )  # fmt: skip
    page = build.render(dataclasses.replace(released, charts=(chart,)))
    if side == "baseline":
        assert "No values to draw" not in page
        assert page.count("50%") >= 2
    assert "before, n 10" in page


def test_writing_makes_the_directory_and_replaces_the_old_file(tmp_path, first_release):
    path = tmp_path / "reports" / "taxi-1.html"
    assert build.write(first_release, path) == path
    path.write_text("old")
    build.write(first_release, path)
    assert path.read_text() == build.render(first_release)
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_report(tmp_path, first_release, monkeypatch):
    path = tmp_path / "taxi-1.html"
    path.write_text("old")

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        build.write(first_release, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
