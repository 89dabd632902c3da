"""Selectors as they are written on a command line."""

from __future__ import annotations

import pytest

from tfx_encore.pipeline.selectors import parse_selector
from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.records import SelectAll, SelectFingerprint, SelectKeys, SelectSlice

FEATURES = ("payment_type", "company")
DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("all", SelectAll()),
        (f"fingerprint=sha256:{DIGEST}", SelectFingerprint(f"sha256:{DIGEST}")),
        (f"keys={DIGEST}", SelectKeys((DIGEST,))),
        (f"keys={DIGEST},{DIGEST[::-1]}", SelectKeys((DIGEST, DIGEST[::-1]))),
        (f"keys={DIGEST.upper()}", SelectKeys((DIGEST,))),
        ("slice:payment_type=Cash", SelectSlice({"payment_type": "Cash"})),
        (
            "slice:payment_type=Credit Card,company=Blue",
            SelectSlice({"payment_type": "Credit Card", "company": "Blue"}),
        ),
        (r"slice:company=Smith\, Sons", SelectSlice({"company": "Smith, Sons"})),
        ("slice:company=a=b", SelectSlice({"company": "a=b"})),
        ("slice:company=", SelectSlice({"company": ""})),
    ],
)
def test_each_form_is_understood(text, selector):
    assert parse_selector(text, FEATURES) == selector


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not one of all, fingerprint="),
        ("everything", "'everything': not one of all"),
        ("fingerprint=abc", "'abc' is no fingerprint"),
        (f"fingerprint={DIGEST}", "is no fingerprint; expected sha256:"),
        ("keys=", "'' is no row key"),
        (f"keys={DIGEST},", "'' is no row key"),
        (f"keys={DIGEST[:-1]}", "is no row key"),
        ("slice:", "is no FEATURE=VALUE"),
        ("slice:payment_type", "'payment_type' is no FEATURE=VALUE"),
        ("slice:payment=Cash", "features: company, payment_type"),
        ("slice:payment_type=Cash,", "'' is no FEATURE=VALUE"),
    ],
)
def test_anything_else_is_refused_with_the_part_that_is_wrong(text, said):
    with pytest.raises(ConfigError, match="--selector") as caught:
        parse_selector(text, FEATURES)
    assert said in str(caught.value)
