"""What was found in a workspace, damaged things included. No IO here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from tfx_encore.schemas.nights import NightRecord
from tfx_encore.schemas.records import Acknowledgement, InvalidationRecord
from tfx_encore.schemas.release import Manifest


@dataclass(frozen=True)
class Damaged:
    """A night that is there and cannot be read.

    Attributes:
        date: its day.
        message: what is wrong, and what to do.
    """

    date: str
    message: str


Night = Union[NightRecord, Damaged]


@dataclass(frozen=True)
class Release:
    """One version that was ever pushed.

    Attributes:
        version: its number.
        manifest: what it says of itself; None if that is damaged.
        problem: what is wrong with it; "" if nothing is.
        labels: the labels that point at it.
        on_disk: False if retention removed it.
    """

    version: int
    manifest: Manifest | None
    problem: str
    labels: tuple[str, ...]
    on_disk: bool


@dataclass(frozen=True)
class Releases:
    """All versions, newest first.

    Attributes:
        found: the versions.
        problem: why the directory cannot be read; "" if it can.
    """

    found: tuple[Release, ...] = ()
    problem: str = ""

    def of(self, version: int | None) -> Release | None:
        """One version, or None."""
        return next((item for item in self.found if item.version == version), None)

    def live(self, label: str) -> Release | None:
        """The version that a label points at, or None."""
        return next((item for item in self.found if label in item.labels), None)


@dataclass(frozen=True)
class Records:
    """Invalidation records, oldest first, and who has applied them.

    Attributes:
        found: the records.
        acknowledgements: who applied what.
        problems: what could not be read, one line each.
    """

    found: tuple[InvalidationRecord, ...] = ()
    acknowledgements: tuple[Acknowledgement, ...] = ()
    problems: tuple[str, ...] = ()
