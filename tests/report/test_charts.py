"""The drawings as text: what is in them, whatever the data."""

import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import pytest

from tfx_encore.pipeline.report import charts, slice_charts
from tfx_encore.pipeline.report.slice_charts import SliceRow
from tfx_encore.pipeline.report.svg import PAINTS, shortened, text_width
from tfx_encore.schemas.charts import Coverage, CoveragePoint, FeatureChart
from tfx_encore.schemas.decisions import Outcome

MINUS = "\N{MINUS SIGN}"


def _texts(svg):
    return [element.text for element in ET.fromstring(svg).iter() if element.tag == "text"]


def _numeric(**changes):
    given = {"feature": "fare", "kind": "numeric", "current": (0.2, 0.8), "edges": (0.0, 1.0, 2.0)}
    return FeatureChart(**{**given, **changes})


def _drawn(report):
    for index, chart in enumerate(report.charts):
        yield charts.distribution(chart, f"f{index}")
    yield charts.coverage_curve(report.coverage, "c")


def test_drawings_name_no_colour_but_the_pages_own(released):
    for svg in _drawn(released):
        assert not re.search(r"#[0-9a-fA-F]{6}\b", svg)
        assert set(re.findall(r"var\(--([a-z_-]+)\)", svg)) <= set(PAINTS)


def test_drawings_are_well_formed_and_refer_only_to_themselves(released):
    for svg in _drawn(released):
        ids = re.findall(r' id="([^"]+)"', svg)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg)) <= set(ids)
        assert ET.fromstring(svg).get("role") == "img"


def test_drawings_carry_no_style_sheet_that_would_leak_into_the_page(released):
    for svg in _drawn(released):
        assert "<style" not in svg
        assert "font-family" not in svg


def test_equal_data_gives_equal_bytes(released):
    assert list(_drawn(released)) == list(_drawn(released))


def test_drawing_leaves_matplotlibs_settings_alone(released):
    before = dict(mpl.rcParams)
    next(_drawn(released))
    assert dict(mpl.rcParams) == before


def test_a_hostile_category_is_text(hostile):
    chart = FeatureChart("f", "categorical", current=(1.0,), labels=(hostile,))
    svg = charts.distribution(chart, "x")
    assert "<script" not in svg
    assert "<img" not in svg
    assert _texts(svg)[-1].startswith("<script") or any("<script" in text for text in _texts(svg))


@pytest.mark.parametrize(
    "label",
    ["$5 & up $10", "出租车公司", "🚕 cab", "a\x00b\nc", "", "שלום", "@@0@@", "\\frac{1}{2}"],
)
def test_no_category_name_breaks_a_drawing(label, recwarn):
    chart = FeatureChart("f", "categorical", current=(0.7, 0.3), labels=(label, "other"))
    texts = _texts(charts.distribution(chart, "x"))
    assert shortened(label, 138) in {text or "" for text in texts}
    assert not recwarn.list


def test_a_long_name_keeps_both_ends_and_fits():
    short = shortened("payment_type=Credit Card,trip_start_hour=8", 138)
    assert short.startswith("payment")
    assert short.endswith("hour=8")
    assert text_width(short) <= 138


def test_many_categories_become_a_few_and_a_rest():
    shares = tuple(1 / 40 for _ in range(40))
    chart = FeatureChart(
        "f", "categorical", shares, shares, labels=tuple(f"c{i}" for i in range(40))
    )
    rows = charts.shown_categories(chart)
    assert len(rows) == charts.MAX_CATEGORIES
    assert rows[-1].name == "(27 more)"
    assert rows[-1].now == pytest.approx(27 / 40)


def test_a_category_that_vanished_keeps_its_row():
    before = (0.9, *(0.1 / 39 for _ in range(39)))
    now = (0.0, *(1.0 / 39 for _ in range(39)))
    chart = FeatureChart("f", "categorical", now, before, labels=tuple(f"c{i}" for i in range(40)))
    assert charts.shown_categories(chart)[0].name == "c0"


def test_close_edges_stay_apart_on_the_axis():
    edges = (17031.081, 17031.082, 17031.083, 17031.084)
    texts = _texts(charts.distribution(_numeric(current=(0.5, 0.3, 0.2), edges=edges), "x"))
    ticks = [text for text in texts if text.startswith("17")]
    assert len(ticks) >= 2
    assert len(set(ticks)) == len(ticks)


def test_bins_of_unequal_width_are_labelled_by_their_edges():
    chart = _numeric(current=(0.5, 0.25, 0.25), edges=(0.0, 1.0, 10.0, 1000.0))
    assert {"0", "1", "10", "1,000"} <= set(_texts(charts.distribution(chart, "x")))


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ((0.0, 2.5, 5.0), ["0.0", "2.5", "5.0"]),
        ((-87.68, -87.66, -87.64), ["−87.68", "−87.66", "−87.64"]),  # noqa: RUF001
        ((0.0, 2000.0, 4000.0), ["0", "2,000", "4,000"]),
        ((1.38e9, 1.41e9, 1.44e9), ["1.38G", "1.41G", "1.44G"]),
        ((7.0,), ["7"]),
        ((), []),
    ],
)
def test_ticks_have_the_decimals_that_tell_them_apart(ticks, labels):
    assert charts.tick_labels(ticks) == labels


@pytest.mark.parametrize(
    "changes",
    [
        {"current": (1.0,), "edges": (5.0, 5.0)},
        {"current": (0.0, 0.0)},
        {"current": (0.5, 0.5), "edges": (-1e300, 0.0, 1e300)},
        {"current": (0.5, 0.5), "edges": (1e9, 2e9, 3e9), "baseline": (0.0, 0.0)},
    ],
)
def test_degenerate_numbers_still_draw(changes):
    assert ET.fromstring(charts.distribution(_numeric(**changes), "x")) is not None


def _rows(n, **changes):
    given = {"outcome": Outcome.OK, "x": 0.01, "interval": (-0.01, 0.03), "threshold": -0.02}
    return [SliceRow(f"slice {i}", **{**given, **changes}) for i in range(n)]


def test_a_slice_drawing_shows_the_worst_thirty():
    texts = _texts(slice_charts.differences(_rows(64), "accuracy", "d"))
    assert "slice 29" in texts
    assert "slice 30" not in texts


def test_a_tiny_slice_does_not_stretch_the_scale():
    tiny = SliceRow("tiny", Outcome.INSUFFICIENT_DATA, 0.0, (-9.0, 9.0))
    texts = _texts(slice_charts.differences([*_rows(3), tiny], "accuracy", "d"))
    ticks = [
        float(text.replace(MINUS, "-"))
        for text in texts
        if re.fullmatch(rf"[+{MINUS}]?[\d.]+", text)
    ]
    assert max(map(abs, ticks)) < 0.1


def test_slices_without_numbers_still_draw():
    rows = [SliceRow("absent", Outcome.INSUFFICIENT_DATA, None)]
    assert "absent" in _texts(slice_charts.values(rows, "auc", "v"))


@pytest.mark.parametrize(
    "points",
    [(), ((1, 0.1),), ((0, 0.0), (10, 0.2), (20, 0.3)), tuple((10**i, i / 9) for i in range(9))],
)
def test_any_coverage_curve_draws_and_says_its_budget(points):
    curve = tuple(CoveragePoint(n, n * 100, rate) for n, rate in points)
    coverage = Coverage(
        "examples", "later", 10, 5, 9, entries=20, bytes=2000, hit_rate=0.3, curve=curve
    )
    assert "20 entries, 30%" in _texts(charts.coverage_curve(coverage, "c"))


def test_a_long_slice_name_keeps_its_values_longest():
    name = "payment_type=Cash, trip_start_day=1"
    assert slice_charts.slice_label(name, 1000) == name
    assert slice_charts.slice_label(name, 110) == "type=Cash, day=1"
    assert slice_charts.slice_label(name, 50) == "Cash, 1"
    assert slice_charts.slice_label("overall", 1) == "overall"
