"""The release journal: one file for each invalidation record, append-only.

An entry counts once `labels.json` covers its sequence; until then it is an unfinished write.
"""

from __future__ import annotations

from collections.abc import Sequence

from tfx_encore.metadata.files import READ_ONLY, Disk
from tfx_encore.metadata.release_layout import Layout
from tfx_encore.schemas.errors import DataError, ReleaseCorruptError
from tfx_encore.schemas.records import InvalidationRecord, RecordDraft
from tfx_encore.schemas.serial import from_json, to_json


def numbered(
    drafts: Sequence[RecordDraft], after: int, created_at: str
) -> tuple[InvalidationRecord, ...]:
    """Gives each draft the next sequence after `after`, and its time."""
    return tuple(draft.numbered(after + 1 + i, created_at) for i, draft in enumerate(drafts))


def write_entries(disk: Disk, layout: Layout, records: Sequence[InvalidationRecord]) -> None:
    """Writes entries that nobody sees until the state that covers them is committed."""
    for record in records:
        content = f"{to_json(record, indent=2)}\n".encode()
        disk.write(layout.entry(record.sequence), content, mode=READ_ONLY)
    if records:
        disk.sync_dir(layout.journal)


def read_entry(layout: Layout, sequence: int) -> InvalidationRecord:
    """Reads a committed entry.

    Raises:
        ReleaseCorruptError: it is missing, unreadable, or another record's.
    """
    path = layout.entry(sequence)
    try:
        record = from_json(InvalidationRecord, path.read_bytes(), source=str(path))
    except FileNotFoundError as error:
        raise ReleaseCorruptError(
            f"{path} is missing, though labels.json counts it; restore it from a copy, or from "
            "the record of the same number in ML Metadata"
        ) from error
    except (OSError, DataError) as error:
        raise ReleaseCorruptError(f"{error}; restore {path} from a copy") from error
    if (record.model, record.sequence) != (layout.model, sequence):
        raise ReleaseCorruptError(
            f"{path} holds the record {record.record_id}; restore it from a copy"
        )
    return record


def read_entries(layout: Layout, first: int, last: int) -> tuple[InvalidationRecord, ...]:
    """Reads committed entries `first` to `last`, both included; raises as `read_entry`."""
    return tuple(read_entry(layout, sequence) for sequence in range(first, last + 1))
