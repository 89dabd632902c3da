"""The certificate of a candidate: what its graph proves and what computing its rows shows."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from tfx_encore.cache.certification import (
    Findings,
    describe,
    measure,
    same_answers,
)
from tfx_encore.cache.rows import decode_row
from tfx_encore.cache.tf_example import example_of_row
from tfx_encore.components.cache_warmer.head import HeadRow
from tfx_encore.components.cache_warmer.inference import Session, padded
from tfx_encore.components.cache_warmer.plan import Plan
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.release import Certificate
from tfx_encore.schemas.warmup_policy import WarmupPolicy


def certify(plan: Plan, head: Sequence[HeadRow], policy: WarmupPolicy) -> Certificate:
    """Says whether rows of every signature to warm may be cached one by one.

    The rows are those of the head with the smallest keys: chosen by nothing but a digest, and the
    same in each run. The statements about features are those of the first signature.

    Raises:
        ModelError: the model cannot be loaded.
    """
    checked = 0
    findings = Findings(True, True, 0.0, 0.0)
    for index in range(len(plan.specs)):
        of_signature = (row for row in head if row.signature == index)
        rows = heapq.nsmallest(policy.certify_rows, of_signature, key=lambda row: row.key)
        if rows or index == 0:
            findings = _worse(findings, _findings(plan, index, rows, policy))
            checked += len(rows)
    reading = plan.readings[0]
    return Certificate(
        signature=reading.spec.signature,
        row_independent=findings.independent,
        deterministic=findings.deterministic,
        rows_checked=checked,
        message=describe(findings, checked),
        features_read=reading.features_read,
        transformed_only=reading.transformed_only,
    )


def _findings(plan: Plan, index: int, rows: Sequence[HeadRow], policy: WarmupPolicy) -> Findings:
    reading = plan.readings[index]
    name = reading.spec.signature
    if reading.stateful_ops:
        problem = f"{name} holds operations that may differ each time: {reading.stateful_ops}"
        return _refused(problem, deterministic=False)
    session = Session(plan.path, reading.spec, plan.output_filter)
    rows = _answerable(session, rows, policy.batch_size)
    if len(rows) < 2:
        return _refused(f"{name} answers only {len(rows)} distinct row(s), too few to compare")
    inputs = [row.example or row.row for row in rows]
    try:
        outside = _outside_of_the_key(session, plan, index, rows, policy.batch_size)
        if outside is not None:
            return _refused(f"something outside of the row's key changed {outside}")
        return measure(session.answer, inputs, policy.batch_size, policy.rounding_ulps)
    except DataError as error:
        return _refused(f"{name}: {error}")


def _answerable(session: Session, rows: Sequence[HeadRow], size: int) -> Sequence[HeadRow]:
    """Drops the rows that the model refuses; they are never cached."""
    inputs = [row.example or row.row for row in rows]
    if _answers(session, inputs, size):
        return rows
    return [row for row, one in zip(rows, inputs, strict=True) if _answers(session, [one], size)]


def _answers(session: Session, inputs: Sequence[bytes], size: int) -> bool:
    try:
        for start in range(0, len(inputs), size):
            session.answer(padded(inputs[start : start + size], size))
    except DataError:
        return False
    return True


def _outside_of_the_key(
    session: Session, plan: Plan, index: int, rows: Sequence[HeadRow], size: int
) -> str | None:
    """Answers each Example again with nothing in it but its canonical row; names a difference."""
    spec = plan.specs[index]
    if spec.form == "tensors":
        return None
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        whole = session.answer(padded([row.example for row in part], size))
        bare = [example_of_row(decode_row(row.row), spec) for row in part]
        difference = same_answers(whole, session.answer(padded(bare, size)))
        if difference is not None:
            return difference
    return None


def _refused(problem: str, deterministic: bool = True) -> Findings:
    return Findings(deterministic, False, float("inf"), float("inf"), problem)


def _worse(first: Findings, second: Findings) -> Findings:
    """Findings that hold for both."""
    return Findings(
        first.deterministic and second.deterministic,
        first.independent and second.independent,
        max(first.ulps, second.ulps),
        max(first.difference, second.difference),
        first.problem or second.problem,
    )
