"""Carries out what nights propose, as far as it is safe, and tells ML Metadata of every night."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tfx_encore.components.night_recorder.recording import Recorder
from tfx_encore.metadata.night_ledger import reconcile
from tfx_encore.metadata.night_store import NightStore
from tfx_encore.metadata.release_push import whoami
from tfx_encore.pipeline.mlmd import connection
from tfx_encore.pipeline.night_actions import SAFE, UNASKED
from tfx_encore.pipeline.night_digests import night_files
from tfx_encore.pipeline.publish import reconcile_project
from tfx_encore.pipeline.quiet import hush
from tfx_encore.pipeline.run import Project
from tfx_encore.schemas.errors import EncoreError
from tfx_encore.schemas.nights import NightAction, NightRecord
from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll, SelectSlice


def act(
    project: Project, recorder: Recorder, days: Iterable[str], *, asked: bool
) -> tuple[str, ...]:
    """Carries out the safe proposals of these nights; returns the nights where something was done.

    Unless it is asked for, that is only to warm the cache anew from the newest night: it changes
    no answer. What is done stays done: acting again on the same night writes nothing. A night whose
    model is no longer live is left: its cached answers are served no more.
    """
    acted = []
    for day in days:
        if not recorder.store.has(day):
            continue
        newest = day == recorder.store.dates()[-1]
        kinds = SAFE if asked else UNASKED if newest else ()
        record = recorder.store.record(day)
        actions = tuple(
            _carried_out(project, record, action) if action.kind in kinds else action
            for action in record.actions
        )
        if actions != record.actions:
            recorder.changed(replace(record, actions=actions))
            acted.append(day)
    if acted:
        reconcile_project(project)
    return tuple(acted)


def publish(project: Project, store: NightStore) -> tuple[NightRecord, ...]:
    """Publishes every revision that ML Metadata lacks; returns those.

    Where the release journal is the ledger, the nights are told by their records alone.

    Raises:
        LedgerError: ML Metadata cannot be reached or refuses.
    """
    if project.config.metadata.journal:
        return ()
    from tfx_encore.metadata.mlmd_night_ledger import MlmdNightLedger

    ledger = MlmdNightLedger(connection(project.config, project.workspace))
    try:
        return reconcile(store.records(), ledger)
    finally:
        ledger.close()


def _carried_out(project: Project, record: NightRecord, action: NightAction) -> NightAction:
    if action.state == "done" or not _is_live(project, record):
        return action
    try:
        result = (_rewarm if action.kind == "rewarm" else _invalidate)(project, record, action)
    except EncoreError as error:
        return replace(action, state="failed", result=str(error))
    return replace(action, state="done", result=result)


def _is_live(project: Project, record: NightRecord) -> bool:
    labels = project.releases.labels()
    live = {project.releases.manifest(version).fingerprint for version in labels.values()}
    return record.fingerprint in live


def _invalidate(project: Project, record: NightRecord, action: NightAction) -> str:
    """Writes the invalidation record, or finds it; returns its id."""
    draft = RecordDraft(
        model=record.model,
        cause=Cause.DATA_DRIFT,
        selector=SelectSlice(dict(action.features)) if action.features else SelectAll(),
        reason=f"night {record.date}: {action.reason}",
        created_by=whoami(),
    )
    mark = f"night {record.date}: "
    for held in project.releases.records():
        # A run that was killed between the record and the night's own revision left it so.
        same = (held.cause, held.selector) == (draft.cause, draft.selector)
        if same and held.reason.startswith(mark):
            return held.record_id
    return project.releases.append_record(draft).record_id


def _rewarm(project: Project, record: NightRecord, action: NightAction) -> str:
    """Makes a snapshot of the night's traffic; returns where it is."""
    del action
    hush()
    from tfx_encore.pipeline.rewarm import rewarm_project

    files = [file.path for file in night_files(project, record.date).log]
    return str(rewarm_project(project, record.version or 0, record.date, files).path)
