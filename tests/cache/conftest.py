"""Clocks, stores that misbehave, a model and a ledger, for the tests of the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tfx_encore.cache.entry import Entry
from tfx_encore.cache.keys import row_key
from tfx_encore.cache.row_request import Computed, RowRequest
from tfx_encore.cache.rows import cell, encode_row
from tfx_encore.schemas.records import (
    Acknowledgement,
    Cause,
    InvalidationRecord,
    SelectAll,
    SelectFingerprint,
    SelectKeys,
    SelectSlice,
)


class Clock:
    """A clock that goes when it is told."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class DictStore:
    """A remote store in memory that can be told to misbehave."""

    name = "remote"

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.reads: list[list[bytes]] = []
        self.fails: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.answer: Callable[[list[Any]], Any] = lambda found: found

    async def _pass(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.fails is not None:
            raise self.fails

    async def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        self.reads.append(list(keys))
        await self._pass()
        return self.answer([self.entries.get(key) for key in keys])

    async def put_many(self, entries: Sequence[Entry]) -> int:
        await self._pass()
        self.entries |= {entry.key: entry for entry in entries}
        return len(entries)

    async def remove(self, keys: Sequence[bytes]) -> int:
        await self._pass()
        return sum(self.entries.pop(key, None) is not None for key in keys)

    async def clear(self, fingerprint: str | None = None) -> int:
        doomed = [k for k, e in self.entries.items() if fingerprint in (None, e.fingerprint)]
        return await self.remove(doomed)

    async def close(self) -> None:
        self.entries.clear()


class Model:
    """Answers rows; counts its calls; can be held up, fail, or refuse."""

    def __init__(self) -> None:
        self.calls: list[list[RowRequest]] = []
        self.fails: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.refuses: set[bytes] = set()
        self.data = 0

    @property
    def rows(self) -> list[bytes]:
        """All rows computed, in order."""
        return [request.row for call in self.calls for request in call]

    def says(self, request: RowRequest) -> bytes:
        return b"%s %s %d" % (request.fingerprint.encode(), request.row, self.data)

    async def __call__(self, requests: Sequence[RowRequest]) -> list[Computed]:
        self.calls.append(list(requests))
        results = [
            Computed(b"refused", request.fingerprint, "rejection")
            if request.row in self.refuses
            else Computed(self.says(request), request.fingerprint)
            for request in requests
        ]
        if self.gate is not None:
            await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        return results


class FakeLedger:
    """A ledger whose content a test writes by hand."""

    def __init__(self) -> None:
        self.held: list[InvalidationRecord] = []
        self.acks: dict[tuple[str, int], Acknowledgement] = {}
        self.fails: Exception | None = None
        self.reads = 0

    def records(
        self, model: str, *, after: int = 0, limit: int | None = None
    ) -> tuple[InvalidationRecord, ...]:
        self.reads += 1
        if self.fails is not None:
            raise self.fails
        return tuple(r for r in self.held if r.model == model and r.sequence > after)[:limit]

    def acknowledge(self, record: InvalidationRecord, consumer: str) -> Acknowledgement:
        if self.fails is not None:
            raise self.fails
        ack = Acknowledgement(record.model, record.sequence, consumer, "now")
        return self.acks.setdefault((consumer, record.sequence), ack)

    def acknowledgements(
        self, model: str, *, sequence: int | None = None
    ) -> tuple[Acknowledgement, ...]:
        return tuple(a for a in self.acks.values() if sequence in (None, a.sequence))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def remote() -> DictStore:
    return DictStore()


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def request_for() -> Callable[..., RowRequest]:
    """Makes a request for a row of the features given."""

    def make(fingerprint: str = "f1", /, **features: Any) -> RowRequest:
        row = encode_row({name: cell(value) for name, value in features.items()})
        key = row_key(fingerprint, "serving_default", row)
        return RowRequest(key, row, fingerprint, "serving_default")

    return make


@pytest.fixture
def record() -> Callable[..., InvalidationRecord]:
    """Makes a record; of a selector only what it selects is given."""

    def make(
        sequence: int,
        cause: Cause | str = Cause.MANUAL,
        *,
        fingerprint: str | None = None,
        slice_of: dict[str, str] | None = None,
        keys: Sequence[bytes] | None = None,
        model: str = "taxi",
        reason: str = "because",
    ) -> InvalidationRecord:
        selector: Any = SelectAll()
        if fingerprint is not None:
            selector = SelectFingerprint(fingerprint)
        elif slice_of is not None:
            selector = SelectSlice(slice_of)
        elif keys is not None:
            selector = SelectKeys(tuple(key.hex() for key in keys))
        return InvalidationRecord(
            model=model,
            sequence=sequence,
            cause=Cause(cause),
            selector=selector,
            reason=reason,
            created_at="2026-11-20T18:50:46.000000Z",
            created_by="test",
        )

    return make
