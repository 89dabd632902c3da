"""Which earlier nights a night is judged by, and the digest that says so. No IO here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfx_encore.monitoring.drift_seasonal import history_dates
from tfx_encore.monitoring.night_record import DRIFT_GATE, alarm_key
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.nightly_policy import DiscoveryPolicy, NightlyPolicy
from tfx_encore.schemas.nights import NightAlarm, NightRecord, SliceFinding

Records = Mapping[str, NightRecord]


@dataclass(frozen=True)
class Looked:
    """The earlier nights that matter to one.

    Attributes:
        season: those that drift is measured against, ascending.
        excluded: of those, the nights that had drift of their own.
        release: those that the same model served, ascending.
        findings: what slice discovery found in the nights just before, oldest first.
        alarms: of the last night before.
        digest: of all that; equal digests give equal judgements.
    """

    season: tuple[str, ...]
    excluded: frozenset[str]
    release: tuple[str, ...]
    findings: tuple[tuple[SliceFinding, ...], ...]
    alarms: tuple[NightAlarm, ...]
    digest: str


def look_back(
    records: Records, date: str, fingerprint: str | None, policy: NightlyPolicy
) -> Looked:
    """What of `records` a night is judged by; nights without rows say nothing.

    Args:
        records: date -> record, of any nights.
        date: the night to be judged.
        fingerprint: of the model that served it.
        policy: the `nightly` section.
    """
    earlier = {d: records[d] for d in sorted(records) if d < date and records[d].log.rows}
    dates = history_dates(date, policy.season)
    season = tuple(d for d in dates if d in earlier)
    excluded = frozenset(d for d in season if _has_drift(earlier[d]))
    release = tuple(d for d, r in earlier.items() if fingerprint in _models(r))
    recent = _recent(tuple(earlier), policy.discovery)
    findings = tuple(earlier[d].findings for d in recent)
    before = earlier[max(earlier)].alarms if earlier else ()
    digest = digest_of_values(
        [[d, earlier[d].evaluation_digest] for d in sorted({*season, *release})],
        sorted(excluded),
        sorted(release),
        [[_finding_key(item) for item in night] for night in findings],
        sorted([*alarm_key(alarm), alarm.since] for alarm in before),
    )
    return Looked(season, excluded, release, findings, before, digest)


def _models(record: NightRecord) -> set[str]:
    """Fingerprints of the models that answered rows of a night, as far as they are known."""
    known = set(record.log.fingerprints.values())
    return known | {record.fingerprint} if record.fingerprint else known


def _has_drift(record: NightRecord) -> bool:
    """Whether a night is no baseline: an incident must not become the rule by which it ends."""
    gates = {d.gate: d.outcome for d in record.decisions}
    return gates.get(DRIFT_GATE) is Outcome.BLOCK


def _finding_key(finding: SliceFinding) -> list[Any]:
    return [sorted(finding.features.items()), finding.nights > 0, finding.promoted]


def digest_of_values(*values: Any) -> str:
    """`sha256:` and the digest of values that JSON can hold."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _recent(earlier: tuple[str, ...], discovery: DiscoveryPolicy) -> tuple[str, ...]:
    count = discovery.promote_within - 1
    return earlier[-count:] if count else ()
