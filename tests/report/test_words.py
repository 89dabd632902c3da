"""Numbers, digests and outcomes as a person reads them."""
# ruff: noqa: RUF001 - dashes and minus signs are what is tested

import pytest

from tfx_encore.pipeline.report import words
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.records import Cause, SelectAll, SelectFingerprint, SelectKeys, SelectSlice


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.031249, "0.0312"),
        (-0.5, "−0.5"),
        (1234.5, "1,234"),
        (100.0, "100"),
        (1e-9, "1.00e−09"),
        (1e300, "1.00e+300"),
        (float("nan"), "–"),
        (float("-inf"), "−∞"),
    ],
)
def test_a_number_keeps_three_significant_digits(value, said):
    assert words.number(value) == said


def test_a_difference_always_shows_its_sign():
    assert words.signed(0.02) == "+0.02"
    assert words.signed(-0.02) == "−0.02"
    assert words.signed(0.0) == "0"


def test_decimals_line_up_unless_the_value_would_vanish():
    assert [words.decimal(v) for v in (0.85, 0.8333, 0.00004, 250.0)] == [
        "0.850",
        "0.833",
        "0.00004",
        "250",
    ]
    assert [words.decimal(v, 3, sign=True) for v in (0.0071, -0.00001, -0.02)] == [
        "+0.007",
        "0.000",
        "−0.020",
    ]
    assert words.interval((-0.0425, 0.0071), sign=True) == "−0.043 to +0.007"
    assert words.interval(None) == "–"


def test_a_metric_gets_the_decimals_that_its_largest_value_needs():
    assert words.places([0.85, None]) == 3
    assert words.places([0.0042, 0.0001]) == 5
    assert words.places([41.2]) == 1
    assert words.places([]) == 3


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.507, "50.7%"), (1.0, "100%"), (0.0, "0%"), (0.0001, "<0.1%"), (None, "–")],
)
def test_a_share_is_said_in_percent(share, said):
    assert words.percent(share) == said


def test_a_tiny_p_value_is_only_bounded():
    assert words.p_value(0.0004) == "<0.001"
    assert words.p_value(0.0312) == "0.031"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.44, "0.4 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s")]
)
def test_durations_grow_coarser(seconds, said):
    assert words.duration(seconds) == said


def test_sizes_climb_units_by_a_thousand():
    assert [words.size(n) for n in (999, 336_000, 2_500_000, 7 * 10**12)] == [
        "999 B",
        "336 kB",
        "2.5 MB",
        "7,000 GB",
    ]


def test_a_digest_is_cut_and_loses_its_algorithm():
    assert words.digest("sha256:9f2c41d07be85a6e13c2") == "9f2c41d07be8"
    assert words.digest(None) == "–"


def test_a_moment_is_said_in_utc():
    assert words.moment("2026-11-20T19:50:46.000001+01:00") == "20 Nov 2026, 18:50 UTC"
    assert words.moment("2026-11-20T18:50:46.000001Z") == "20 Nov 2026, 18:50 UTC"
    assert words.moment("last tuesday") == "last tuesday"


def test_every_outcome_and_cause_has_words():
    assert set(words.MARKS) == set(words.OUTCOMES) == set(Outcome)
    assert all(words.cause(cause) for cause in Cause)


def test_subjects_lose_their_type_but_not_their_colons():
    assert words.subject("feature:fare") == "fare"
    assert words.subject("slice:route=A:B") == "route=A:B"
    assert words.subject("other:thing") == "other:thing"


def test_unknown_measures_and_gates_keep_readable_names():
    assert words.measure("mean_absolute_error") == "mean absolute error"
    assert words.gate("privacy_review") == "Privacy review"
    assert words.gate("") == ""


def test_selectors_say_what_is_withdrawn():
    assert words.selector(SelectAll()) == "every answer of the model"
    assert words.selector(SelectFingerprint("sha256:abcdef0123456789")).endswith("abcdef012345")
    assert words.selector(SelectSlice({"company": "Sun Taxi"})).endswith("company = Sun Taxi")
    assert words.selector(SelectKeys(("00",))) == "1 row key"
