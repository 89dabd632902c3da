"""Transformed keys of every loaded version: rows that the model cannot tell apart. asyncio.

The rows are `cache.bucket_rows`; what they are for a version is read from its graph when it is
loaded, and checked against the answers of its snapshot, if it has one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tfx_encore.cache.bucket_rows import BucketRows
from tfx_encore.cache.row_request import RowRequest, TransformedRow, transformed_row
from tfx_encore.cache.snapshot import read_entries, verify_snapshot
from tfx_encore.schemas.errors import EncoreError

log = logging.getLogger("tfx_encore.gateway")


class TransformedKeys:
    """A `cache.row_request.Transform` for all versions and signatures."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], BucketRows] = {}

    async def __call__(self, requests: Sequence[RowRequest]) -> list[TransformedRow | None]:
        """Returns the transformed rows; None where a signature has none."""
        return [self._transformed(request) for request in requests]

    def features(self, fingerprint: str, signature: str) -> tuple[str, ...]:
        """The features that are read through buckets only."""
        found = self._rows.get((fingerprint, signature))
        return found.features if found else ()

    async def learn(
        self, fingerprint: str, path: str, signatures: Iterable[str], snapshot: Path | None = None
    ) -> None:
        """Reads what a version's rows are.

        Args:
            fingerprint: of its content.
            path: of its SavedModel.
            signatures: those that are cached by rows.
            snapshot: of the same fingerprint: rows that become equal must have equal answers there.
        """
        found = await asyncio.to_thread(_read, path, tuple(signatures))
        if found and snapshot is not None:
            broken = await asyncio.to_thread(_contradicted, found, snapshot, fingerprint)
            for signature in broken:
                log.error(
                    "transformed keys not used fingerprint=%s signature=%s reason=%r",
                    *(fingerprint, signature, "the snapshot holds two answers for one of them"),
                )
                del found[signature]
        self._rows.update({(fingerprint, name): rows for name, rows in found.items()})

    def of(self, fingerprint: str) -> Callable[[str, bytes], bytes | None]:
        """Returns what makes a version's transformed rows: signature, canonical row -> row."""

        def transformed(signature: str, row: bytes) -> bytes | None:
            found = self._rows.get((fingerprint, signature))
            return found.row(row) if found else None

        return transformed

    def forget(self, fingerprint: str) -> None:
        """Lets go of a version."""
        for key in [key for key in self._rows if key[0] == fingerprint]:
            del self._rows[key]

    def _transformed(self, request: RowRequest) -> TransformedRow | None:
        rows = self._rows.get((request.fingerprint, request.signature))
        row = rows.row(request.row) if rows else None
        return None if row is None else transformed_row(request.payload.maker, row)


def _read(path: str, signatures: Iterable[str]) -> dict[str, BucketRows]:
    """What can be proved; nothing for a graph that cannot be followed."""
    from tfx_encore.cache.saved_model_buckets import bucket_rows

    found = {}
    for signature in signatures:
        try:
            rows = bucket_rows(path, signature)
        except (EncoreError, ValueError, KeyError) as error:
            log.info("no transformed keys path=%s signature=%s reason=%r", path, signature, error)
            continue
        if rows is not None:
            found[signature] = rows
    return found


def _contradicted(found: dict[str, BucketRows], snapshot: Path, fingerprint: str) -> set[str]:
    """Signatures of which two rows become equal but have other answers."""
    try:
        meta = verify_snapshot(str(snapshot), open)
    except EncoreError:
        return set()  # nothing is loaded from it either
    if meta.fingerprint != fingerprint:
        return set()
    answers: dict[tuple[str, bytes], bytes] = {}
    broken = set()
    for entry in read_entries(str(snapshot), open):
        signature = meta.signatures[entry.signature].signature
        row = found[signature].row(entry.row) if signature in found else None
        if row is not None and answers.setdefault((signature, row), entry.answer) != entry.answer:
            broken.add(signature)
    return broken
