"""Nights that looked at nights which have changed since are judged again, without their rows."""

from __future__ import annotations

from collections.abc import Collection

from tfx_encore.components.night_recorder.looking_back import look_back
from tfx_encore.components.night_recorder.recording import Recorder


def judge_again(
    recorder: Recorder, asked: Collection[str] = (), *, force: bool = False
) -> tuple[str, ...]:
    """Judges again what an earlier night has changed; ascending, each by those before it.

    Args:
        recorder: of the nights.
        asked: nights that are also judged again where the configuration has changed.
        force: judge those that were asked for whatever has changed.

    Returns:
        the nights whose record is new.
    """
    again = []
    records = {record.date: record for record in recorder.store.records()}
    for day, record in records.items():
        looked = look_back(records, day, record.fingerprint, recorder.policies.nightly)
        stale = looked.digest != record.history_digest
        other = record.policy_digest != recorder.policies.digest
        if stale or (day in asked and (other or force)):
            records[day], new = recorder.judged_again(day)
            if new:
                again.append(day)
    return tuple(again)
