"""Around a run: the ledger catches up with the journal, and the report is written."""

from __future__ import annotations

import dataclasses

from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.metadata.reconcile import reconcile
from tfx_encore.pipeline.mlmd import open_ledger
from tfx_encore.pipeline.plan import RunResult
from tfx_encore.pipeline.reports import write_report
from tfx_encore.pipeline.run import Project, save_result
from tfx_encore.schemas.records import InvalidationRecord


def reconcile_project(project: Project) -> tuple[InvalidationRecord, ...]:
    """Publishes every journal record that ML Metadata lacks; returns those.

    It heals a run that was killed between its push and its publication, and is how records that
    a command wrote reach ML Metadata. A store that does not exist yet is made only for a record.

    Raises:
        LedgerVersionError: another version of ml-metadata wrote the store.
        LedgerError: the store cannot be reached, or is none.
    """
    model = project.config.model
    journal = JournalLedger(project.workspace.releases)
    with open_ledger(project) as ledger:
        ledger.records(model, limit=1)
        return reconcile(journal, ledger, model)


def finish_run(project: Project, result: RunResult) -> RunResult:
    """Writes the report and the run's record; returns the result with the report's path."""
    if result.state == "unchanged":
        return result
    reconcile_project(project)
    result = dataclasses.replace(result, report=str(write_report(project, result)))
    save_result(project, result)
    return result
