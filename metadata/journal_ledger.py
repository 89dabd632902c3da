"""The ledger that a release directory carries with it: its journal, and acknowledgements beside it.

<releases>/<model>/journal/000012.json                                  the records
<releases>/<model>/journal/acknowledgements/<consumer>/000012.json      who has applied them
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tfx_encore.metadata.files import READ_ONLY, Disk
from tfx_encore.metadata.ledger import conflict, not_held, safe_name
from tfx_encore.metadata.release_layout import Layout, entry_of
from tfx_encore.metadata.releases import ReleaseDirectory, list_models
from tfx_encore.schemas.clock import utc_now
from tfx_encore.schemas.errors import (
    DataError,
    LedgerError,
    LedgerUnavailableError,
    ReleaseBusyError,
    ReleaseError,
)
from tfx_encore.schemas.records import Acknowledgement, InvalidationRecord, RecordDraft
from tfx_encore.schemas.serial import from_json, to_json

# A file name has at most 255 bytes almost everywhere.
_MAX_NAME = 255


class JournalLedger:
    """A `Ledger` over release directories. It gives the sequences of their models.

    Args:
        root: the directory that holds all models' releases.
        clock: gives the time of records and acknowledgements.
    """

    def __init__(self, root: str | os.PathLike[str], *, clock: Callable[[], str] = utc_now) -> None:
        self._root = Path(root)
        self._clock = clock
        self._disk = Disk()

    def append(self, draft: RecordDraft) -> InvalidationRecord:
        """Gives the draft the model's next sequence and keeps it."""
        with _errors_mapped():
            return self._releases(draft.model).append_record(draft)

    def publish(self, record: InvalidationRecord) -> bool:
        """Returns False if the journal holds the record; it takes none that it has not numbered."""
        held = self._held(record)
        if held is None:
            raise LedgerError(
                f"record {record.record_id} was not numbered by the journal in {self._root}, which "
                f"gives the sequences of {record.model!r} itself; append it there instead"
            )
        if held != record:
            raise conflict(held, record)
        return False

    def records(
        self, model: str, *, after: int = 0, limit: int | None = None
    ) -> tuple[InvalidationRecord, ...]:
        """Returns the records above `after`, ascending, at most `limit`."""
        with _errors_mapped():
            return self._releases(model).records(after, limit)

    def models(self) -> tuple[str, ...]:
        """Returns the names of the models that have records, sorted."""
        with _errors_mapped():
            return tuple(model for model in list_models(self._root) if self.records(model, limit=1))

    def acknowledge(self, record: InvalidationRecord, consumer: str) -> Acknowledgement:
        """Notes that `consumer` has applied `record`; the first time counts."""
        folder = self._folder(record.model) / _folder_name(consumer)
        held = self._held(record)
        if held != record:
            raise not_held(record, held)
        ack = Acknowledgement(record.model, record.sequence, consumer, self._clock())
        path = folder / f"{record.sequence:06d}.json"
        with _errors_mapped():
            if not path.exists():
                self._write_once(path, f"{to_json(ack)}\n".encode())
            return _read(path)

    def acknowledgements(
        self, model: str, *, sequence: int | None = None
    ) -> tuple[Acknowledgement, ...]:
        """Returns who applied what, by sequence and then consumer."""
        name = "*.json" if sequence is None else f"{sequence:06d}.json"
        with _errors_mapped():
            paths = self._folder(model).glob(f"*/{name}")
            found = [_read(path) for path in paths if entry_of(path.name) is not None]
        return tuple(sorted(found, key=lambda ack: (ack.sequence, ack.consumer)))

    def _releases(self, model: str) -> ReleaseDirectory:
        return ReleaseDirectory(self._root, model, clock=self._clock)

    def _folder(self, model: str) -> Path:
        return Layout(self._root, model).journal / "acknowledgements"

    def _held(self, record: InvalidationRecord) -> InvalidationRecord | None:
        held = self.records(record.model, after=record.sequence - 1, limit=1)
        return held[0] if held else None

    def _write_once(self, path: Path, content: bytes) -> None:
        """Writes a file that is whole when it appears. If there is one already, that one stays."""
        self._disk.make_dir(path.parent)
        beside = path.with_name(f".{uuid.uuid4().hex}.next")
        self._disk.write(beside, content, mode=READ_ONLY)
        try:
            path.hardlink_to(beside)
        except FileExistsError:
            return
        finally:
            beside.unlink()
        self._disk.sync_dir(path.parent)


def _folder_name(consumer: str) -> str:
    name = safe_name(consumer)
    if len(name) > _MAX_NAME:
        raise LedgerError(
            f"the consumer name {consumer[:60]!r}... is too long for a directory ({len(name)} of "
            f"{_MAX_NAME} bytes); use a shorter one"
        )
    return name


def _read(path: Path) -> Acknowledgement:
    try:
        return from_json(Acknowledgement, path.read_bytes(), source=str(path))
    except DataError as error:
        raise LedgerError(
            f"{error}; remove the file, and the consumer will apply the record again"
        ) from error


@contextmanager
def _errors_mapped() -> Iterator[None]:
    try:
        yield
    except ReleaseBusyError as error:
        raise LedgerUnavailableError(str(error)) from error
    except ReleaseError as error:
        raise LedgerError(str(error)) from error
    except OSError as error:
        raise LedgerError(
            f"the journal could not be read or written: {error}; check the disk and the rights"
        ) from error
