"""Everything known about a version or a night, from the release directory and ML Metadata."""

from __future__ import annotations

import json
from typing import Any, Optional

from tfx_encore.metadata.night_store import RECORD, NightStore
from tfx_encore.pipeline.mlmd import open_ledger
from tfx_encore.pipeline.run import Project
from tfx_encore.schemas.errors import VersionNotFoundError
from tfx_encore.schemas.nights import NightRecord
from tfx_encore.schemas.release import Manifest, SpanDigest
from tfx_encore.schemas.serial import to_json

INPUTS = "inputs.json"


def explain(project: Project, version: int) -> dict[str, Any]:
    """The lineage of a version as one JSON document.

    Keys: `manifest` (data spans and digests, schema, hyperparameters, who, decisions with their
    evidence, certificate, ids in ML Metadata), `baseline` (the manifest of the version it was
    judged against), `spans` (the data of both), `labels`, `records` that this version caused or
    suffered, each with its acknowledgements.

    Raises:
        VersionNotFoundError: no such version was ever pushed; names those that were.
    """
    releases = project.releases
    manifest = releases.manifest(version)
    baseline = _baseline(project, manifest)
    with open_ledger(project) as ledger:
        acknowledgements = ledger.acknowledgements(project.config.model)
    records = [
        {
            **_plain(record),
            "acknowledgements": [
                _plain(ack) for ack in acknowledgements if ack.sequence == record.sequence
            ],
        }
        for record in releases.records()
        if version in (record.version_before, record.version_after)
    ]
    return {
        "model": project.config.model,
        "version": version,
        "labels": sorted(name for name, at in releases.labels().items() if at == version),
        "on_disk": version in releases.versions(),
        "spans": _spans(manifest, baseline),
        "manifest": _plain(manifest),
        "baseline": _plain(baseline) if baseline else None,
        "records": records,
    }


def explain_night(project: Project, date: str) -> dict[str, Any]:
    """What a night was judged by, as one JSON document.

    Keys: `record` (the decision record), `inputs` (the log's and the labels' files with digests),
    `release` (the manifest of the version that served, None if it is unknown), `looked_at` (the
    earlier nights by which it was judged), `records` (invalidation records it led to), `folder`.

    Raises:
        DataError: there is no such night; names those that are.
    """
    from tfx_encore.components.night_recorder.looking_back import look_back

    store = NightStore(project.workspace.releases, project.config.model)
    record = store.record(date)
    others = {other.date: other for other in store.records(last=date)}
    looked = look_back(others, date, record.fingerprint, project.config.nightly)
    caused = {action.result for action in record.actions if action.state == "done"}
    inputs = store.read(date, INPUTS)
    return {
        "model": project.config.model,
        "date": date,
        "record": _plain(record),
        "inputs": json.loads(inputs) if inputs else None,
        "release": _served(project, record),
        "looked_at": {
            "drift": [day for day in looked.season if day not in looked.excluded],
            "trend": list(looked.release),
        },
        "records": [_plain(r) for r in project.releases.records() if r.record_id in caused],
        "folder": str(store.path(date, RECORD).parent),
    }


def _served(project: Project, record: NightRecord) -> Optional[dict[str, Any]]:
    if record.version is None or record.version not in project.releases.history():
        return None
    return _plain(project.releases.manifest(record.version))


def _baseline(project: Project, manifest: Manifest) -> Optional[Manifest]:
    if manifest.baseline_version is None:
        return None
    try:
        return project.releases.manifest(manifest.baseline_version)
    except VersionNotFoundError:
        return None


def _spans(manifest: Manifest, baseline: Optional[Manifest]) -> list[dict[str, Any]]:
    """The data of the version and of its baseline, said apart by `role`."""
    own = [{**_plain(span), "role": "trained and evaluated on"} for span in manifest.spans]
    other: tuple[SpanDigest, ...] = baseline.spans if baseline else ()
    return own + [{**_plain(span), "role": "baseline"} for span in other]


def _plain(value: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(to_json(value))
    return document
