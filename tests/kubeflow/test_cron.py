"""Cron expressions as people write them become those that Kubeflow reads."""

from __future__ import annotations

import pytest

from tfx_encore.kubeflow.cron import kubeflow_cron
from tfx_encore.kubeflow.times import rfc3339
from tfx_encore.schemas.errors import ConfigError


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("0 3 * * *", "0 0 3 * * *"),
        ("  0  3 * * * ", "0 0 3 * * *"),
        ("30 0 3 * * *", "30 0 3 * * *"),
        ("*/15 9-17 * * mon-fri", "0 */15 9-17 * * 1-5"),
        ("0 3 1,15 jan,jul *", "0 0 3 1,15 1,7 *"),
        ("0 3 * * 7", "0 0 3 * * 0"),
        ("0 3 * * 5-7", "0 0 3 * * 0,5,6"),
        ("0 3 * * sun", "0 0 3 * * 0"),
        ("0 3 ? * 1", "0 0 3 ? * 1"),
        ("@daily", "0 0 0 * * *"),
    ],
)
def test_five_fields_become_six(written: str, read: str) -> None:
    assert kubeflow_cron(written) == read


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("3 * *", "3 fields"),
        ("", "0 fields"),
        ("60 3 * * *", "no minute: 0 to 59"),
        ("0 24 * * *", "no hour"),
        ("0 3 0 * *", "no day of the month"),
        ("0 3 * 13 *", "no month"),
        ("0 3 * * 8", "no day of the week"),
        ("0 3 * * freitag", "no day of the week"),
        ("0 5-3 * * *", "ends before it begins"),
        ("*/0 3 * * *", "step"),
        ("0 3 L * *", "no day of the month"),
        ("0 3 * * 1#2", "is no day of the week"),
        ("@fortnightly", "known are"),
    ],
)
def test_what_is_no_cron_is_refused_and_named(written: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kubeflow_cron(written)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("", ""),
        ("2026-11-30", "2026-11-30T00:00:00Z"),
        ("2026-11-30T03:00:00Z", "2026-11-30T03:00:00Z"),
        ("2026-11-30T03:00:00+02:00", "2026-11-30T01:00:00Z"),
    ],
)
def test_times_are_sent_in_utc(written: str, sent: str) -> None:
    assert rfc3339(written, "--start") == sent
