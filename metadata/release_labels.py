"""What a moved label withdraws. No IO here."""

from __future__ import annotations

from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll, SelectFingerprint, Selector


def moved(
    model: str,
    label: str,
    before: tuple[int, str | None],
    after: tuple[int | None, str | None],
    *,
    by: str,
    reason: str,
) -> RecordDraft:
    """The record of a label that moved from one version to another, or was removed.

    Args:
        model: the model's name.
        label: the label that moved.
        before: the version it pointed at and its fingerprint, or None if that cannot be read.
        after: the same of where it points now; (None, None) if it was removed.
        by: who or what moved it.
        reason: one line for a person.
    """
    version_before, fingerprint_before = before
    version_after, fingerprint_after = after
    return RecordDraft(
        model=model,
        cause=_cause(version_before, version_after),
        selector=_answers_of(fingerprint_before),
        reason=reason,
        created_by=by,
        label=label,
        version_before=version_before,
        version_after=version_after,
        fingerprint_before=fingerprint_before,
        fingerprint_after=fingerprint_after,
    )


def _cause(before: int, after: int | None) -> Cause:
    if after is None:
        return Cause.MANUAL
    return Cause.ROLLED_BACK if after < before else Cause.MODEL_PUSHED


def _answers_of(fingerprint: str | None) -> Selector:
    """Everything, if it cannot be told whose answers they are: wrong answers cost more."""
    return SelectAll() if fingerprint is None else SelectFingerprint(fingerprint=fingerprint)
