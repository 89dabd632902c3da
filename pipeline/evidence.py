"""Collects what the components of a finished run wrote."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional, Protocol, TypeVar

from tfx_encore.pipeline.report.data import read_part
from tfx_encore.schemas.charts import Coverage
from tfx_encore.schemas.decisions import Decision
from tfx_encore.schemas.records import InvalidationRecord
from tfx_encore.schemas.release import Certificate
from tfx_encore.schemas.serial import from_json

T = TypeVar("T")

# Name of a report -> the component and output that hold it.
_FOLDERS = {
    "drift_report": ("DriftValidator", "report"),
    "slice_report": ("SlicedEvaluator", "slice_report"),
    "snapshot": ("CacheWarmer", "snapshot"),
    "coverage": ("CacheWarmer", "coverage"),
    "invalidation": ("VersionedPusher", "invalidation"),
    "anomalies": ("ExampleValidator", "anomalies"),
}


class HasUri(Protocol):
    """An artifact, as the local runner returns it."""

    @property
    def uri(self) -> str:
        """Where its files are."""


@dataclass(frozen=True)
class Evidence:
    """What a run wrote, read back. Parts that were not written are empty."""

    decisions: tuple[Decision, ...] = ()
    certificate: Optional[Certificate] = None
    coverage: Optional[Coverage] = None
    records: tuple[InvalidationRecord, ...] = ()
    anomalies: tuple[str, ...] = ()
    folders: dict[str, str] = field(default_factory=dict)


def read_evidence(outputs: Mapping[str, Mapping[str, HasUri]]) -> Evidence:
    """Reads the evidence of a run from its components' outputs.

    Args:
        outputs: component id -> output key -> artifact.
    """
    folders = {
        name: pathlib.Path(outputs[component][key].uri)
        for name, (component, key) in _FOLDERS.items()
        if key in outputs.get(component, {})
    }
    decisions = [
        _read(Decision, folders.get(name), "decision.json")
        for name in ("drift_report", "slice_report")
    ]
    return Evidence(
        decisions=tuple(decision for decision in decisions if decision is not None),
        certificate=_read(Certificate, folders.get("snapshot"), "certificate.json"),
        coverage=_read(Coverage, folders.get("coverage"), "coverage.json"),
        records=_records(folders.get("invalidation")),
        anomalies=_anomalies(folders),
        folders={name: str(path) for name, path in folders.items()},
    )


def _read(kind: type[T], folder: Optional[pathlib.Path], file: str) -> Optional[T]:
    return None if folder is None else read_part(kind, folder / file)


def _records(folder: Optional[pathlib.Path]) -> tuple[InvalidationRecord, ...]:
    if folder is None or not (folder / "records.jsonl").exists():
        return ()
    path = folder / "records.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(from_json(InvalidationRecord, line, source=str(path)) for line in lines if line)


def _anomalies(folders: Mapping[str, pathlib.Path]) -> tuple[str, ...]:
    """One line for each anomaly that ExampleValidator found in any split."""
    if "anomalies" not in folders:
        return ()
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    lines = []
    for file in sorted(folders["anomalies"].glob("Split-*/SchemaDiff.pb")):
        anomalies = anomalies_pb2.Anomalies.FromString(file.read_bytes())
        split = file.parent.name.removeprefix("Split-")
        for feature, info in sorted(anomalies.anomaly_info.items()):
            lines.append(f"{feature} ({split}): {info.description}")
    return tuple(lines)
