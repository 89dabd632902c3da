"""Row independence, measured on functions whose nature is known."""

from __future__ import annotations

import numpy as np
import pytest

from tfx_encore.cache.certification import describe, measure
from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.components.cache_warmer.inference import Session

ROWS = [np.float32(value) for value in np.random.default_rng(0).normal(size=60)]


def certify(function, rows=ROWS, batch_size=32, ulps=64.0):
    return measure(lambda batch: function(np.array(batch)), rows, batch_size, ulps)


def test_a_function_of_the_row_passes():
    findings = certify(lambda x: {"y": np.sin(x), "label": np.where(x > 0, "a", "b").astype("O")})
    assert findings.independent
    assert findings.deterministic
    assert findings.ulps == 0
    assert describe(findings, 60).startswith("60 rows: the same bytes")


@pytest.mark.parametrize(
    "function",
    [
        lambda x: {"y": x - x.mean()},
        lambda x: {"y": x / np.float32(1 + 1e-7 * np.abs(x).max())},
        lambda x: {"y": np.cumsum(x)},
        lambda x: {"y": np.argsort(np.argsort(x))},
        lambda x: {"y": x + x[::-1] * np.float32(1e-3)},
        lambda x: {"y": np.sort(x)},
        lambda x: {"y": np.tile(x[:, None], (1, 1 + int((x > 1).any())))},
    ],
    ids=["mean", "max, barely", "sum so far", "rank", "neighbour", "sorted", "padding"],
)
def test_looking_at_other_rows_is_found(function):
    findings = certify(function)
    assert not findings.independent
    assert findings.deterministic
    assert "changed" in findings.problem


def test_the_size_of_the_batch_and_the_place_in_it_may_not_matter_beyond_rounding():
    assert not certify(lambda x: {"y": x / len(x)}).independent
    assert not certify(lambda x: {"y": x + np.arange(len(x), dtype="f")}).independent
    found = certify(lambda x: {"y": x if len(x) > 1 else np.nextafter(x, np.float32(9))})
    assert found.independent
    assert 0 < found.ulps <= 1
    assert "ulps" in describe(found, 60)


def test_the_bound_on_rounding_is_the_policys():
    def drift(x):
        return {"y": x + (np.float32(0) if len(x) > 1 else np.float32(1e-6))}

    assert certify(drift).independent
    assert not certify(drift, ulps=1.0).independent


def test_a_class_that_flips_with_the_size_of_the_batch_is_not_rounding():
    assert not certify(lambda x: {"y": (x > 0) ^ (len(x) == 1)}).independent


def test_randomness_is_found():
    rng = np.random.default_rng(0)
    findings = certify(lambda x: {"y": x + rng.normal(size=len(x))})
    assert not findings.deterministic
    assert not findings.independent
    assert "again" in findings.problem


def test_nan_for_a_row_is_an_answer_like_another():
    assert certify(lambda x: {"y": np.where(x > 0, np.float32(np.nan), x)}).independent


def test_a_real_network_rounds_with_the_batch_size_and_no_more(models, make_example):
    spec = SignatureSpec("serving_default", "examples", "examples")
    session = Session(models(), spec)
    rows = [make_example(fare=float(fare), hour=fare % 24) for fare in range(0, 300, 3)]
    findings = measure(session.answer, rows, 256, 64.0)
    assert findings.deterministic
    assert findings.independent, findings.problem
    assert findings.ulps < 8
