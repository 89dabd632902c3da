"""What TrendMonitor does: reads tonight, the earlier nights and the release, writes the report."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils

from tfx_encore.metadata.night_store import SLICES, TRENDS, NightStore
from tfx_encore.monitoring.night_slices import NightSlices
from tfx_encore.monitoring.slice_report import SliceTable
from tfx_encore.monitoring.trend import TrendJudgement, judge_trends
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nightly_policy import TrendPolicy
from tfx_encore.schemas.serial import from_json, to_json

STATISTICS, SLICE_REPORT = "statistics", "slice_report"
DATE, RELEASES, MODEL_NAME = "date", "releases", "model_name"
POLICY, EVALUATION, NONCE = "policy", "evaluation", "nonce"
REPORT = "report"
DECISION_FILE = "decision.json"

Artifacts = dict[str, list[types.Artifact]]


class ServingRelease(NamedTuple):
    """The release whose nights are judged.

    Attributes:
        fingerprint: of its model, "" if the log does not say.
        table: its own evaluation; None if there is none.
        name: as `release 3`; None without an evaluation.
    """

    fingerprint: str
    table: Optional[SliceTable] = None
    name: Optional[str] = None


class Executor(base_executor.BaseExecutor):
    """Executor of TrendMonitor."""

    def Do(  # noqa: N802 - TFX names it
        self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        """Writes `decision.json` and `trends.json` into the report.

        Raises:
            DataError: tonight's statistics, the report or an earlier night cannot be read.
        """
        policy = from_json(TrendPolicy, exec_properties[POLICY], source="trend policy")
        evaluation = from_json(EvaluationPolicy, exec_properties[EVALUATION], source="evaluation")
        date = exec_properties[DATE]
        tonight = _tonight(artifact_utils.get_single_instance(input_dict[STATISTICS]))
        release = _release(input_dict.get(SLICE_REPORT) or [], tonight)
        store = NightStore(exec_properties[RELEASES], exec_properties[MODEL_NAME])
        nights = {**earlier_nights(store, date, release.fingerprint), date: tonight}
        judgement = judge_trends(
            nights, release.fingerprint, release.table, policy, evaluation,
            release_name=release.name,
        )  # fmt: skip
        _write(artifact_utils.get_single_instance(output_dict[REPORT]), judgement)


def earlier_nights(store: NightStore, date: str, fingerprint: str) -> dict[str, NightSlices]:
    """The nights before `date` on which the model answered: date -> counts.

    Raises:
        DataError: a night's counts are unreadable.
    """
    found: dict[str, NightSlices] = {}
    for night in store.dates():
        content = store.read(night, SLICES) if night < date else None
        # A search through the bytes spares parsing the nights of other releases.
        if content is None or fingerprint.encode() not in content:
            continue
        slices = from_json(NightSlices, content, source=str(store.path(night, SLICES)))
        if slices.of(fingerprint):
            found[night] = slices
    return found


def _tonight(artifact: types.Artifact) -> NightSlices:
    path = f"{artifact.uri}/{SLICES}"
    if not fileio.exists(path):
        raise DataError(f"{artifact.uri} holds no {SLICES}; give the output of LoggedEvaluator")
    return from_json(NightSlices, _read(path), source=path)


def _release(reports: list[types.Artifact], tonight: NightSlices) -> ServingRelease:
    """The release of the report, if it answered tonight; else whatever answered most."""
    answered = tonight.fingerprints()
    main = ServingRelease(answered[0] if answered else "")
    if not reports:
        return main
    report = artifact_utils.get_single_instance(reports)
    path = f"{report.uri}/{SLICES}"
    fingerprint = report.get_string_custom_property("fingerprint")
    # A log that names no model, as TF Serving's own, was written by the one that is live.
    known = fingerprint if fingerprint in answered or answered != ("",) else ""
    if not fileio.exists(path) or (answered and known not in answered):
        return main
    name = report.get_string_custom_property("release") or None
    return ServingRelease(known, from_json(SliceTable, _read(path), source=path), name)


def _read(path: str) -> bytes:
    with fileio.open(path, "rb") as file:
        content: bytes = file.read()
    return content


def _write(report: types.Artifact, judgement: TrendJudgement) -> None:
    contents = {
        DECISION_FILE: to_json(judgement.decision, indent=2),
        TRENDS: to_json(judgement),
    }
    for name, content in contents.items():
        io_utils.write_string_file(f"{report.uri}/{name}", content + "\n")
    report.set_string_custom_property("outcome", judgement.decision.outcome.value)
    report.set_string_custom_property("reason", judgement.decision.reason)
