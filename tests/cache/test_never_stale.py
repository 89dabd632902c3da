"""The rule of the product: no answer that the live model would not give at that moment.

Two processes share a remote tier; each follows the ledger at its own pace. The world changes only
with a record: whatever a record withdraws, the model would answer otherwise from then on. Random
sequences of requests, pushes, rollbacks, withdrawals, erasures, expiry, eviction, restarts, lost
and stale tiers are played, and every answer is judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tfx_encore.cache.cache_policy import CachePolicy
from tfx_encore.cache.entry import Entry
from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.invalidation import InvalidationState, kills
from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.memory_store import MemoryStore
from tfx_encore.cache.row_request import Answer, Computed, RowRequest, transformed_row
from tfx_encore.cache.rows import cell, decode_row, encode_row, to_array
from tfx_encore.cache.selection import covers
from tfx_encore.schemas.records import (
    Cause,
    InvalidationRecord,
    SelectAll,
    SelectFingerprint,
    SelectKeys,
    SelectSlice,
)

PAYMENTS = ["Cash", "Card"]
FINGERPRINTS = ["f1", "f2"]
ROWS = [(payment, hour) for payment in PAYMENTS for hour in range(2)]
KILLS = [Cause.DATA_DRIFT, Cause.MANUAL, Cause.ERASURE]
BOUND = 60.0


SOME_ROWS = st.lists(st.sampled_from(ROWS), min_size=1, max_size=4)


def request_for(fingerprint: str, row: tuple[str, int]) -> RowRequest:
    data = encode_row({"payment": cell(row[0]), "hour": cell(row[1])})
    key = KeyMaker(fingerprint, "s").key(data)
    return RowRequest(key, data, fingerprint, "s")


async def transform(requests: Sequence[RowRequest]) -> list[Any]:
    """The model sees half of the hour and nothing else."""
    made = []
    for request in requests:
        hour = int(to_array(decode_row(request.row)["hour"]))
        row = encode_row({"half": cell(hour // 2)})
        made.append(transformed_row(KeyMaker(request.fingerprint, "s"), row))
    return made


class Remote:
    """Shared by the processes; may lose and hand back old entries."""

    name = "remote"

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self.ever: dict[bytes, list[Entry]] = {}

    async def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        return [self.entries.get(key) for key in keys]

    async def put_many(self, entries: Sequence[Entry]) -> int:
        for entry in entries:
            self.entries[entry.key] = entry
            self.ever.setdefault(entry.key, []).append(entry)
        return len(entries)

    async def remove(self, keys: Sequence[bytes]) -> int:
        return sum(self.entries.pop(key, None) is not None for key in keys)

    async def clear(self, fingerprint: str | None = None) -> int:
        doomed = [k for k, e in self.entries.items() if fingerprint in (None, e.fingerprint)]
        return await self.remove(doomed)

    async def close(self) -> None:
        """Stays: it is shared."""


class Process:
    """One process: its memory, what it knows of the ledger, and its cache."""

    def __init__(self, machine: NeverStale) -> None:
        self.machine = machine
        self.start()

    def start(self) -> None:
        machine = self.machine
        self.store = MemoryStore(9_000, eviction=machine.eviction)
        self.state = InvalidationState("taxi", BOUND, lambda: machine.now)
        self.cache = InferenceCache(
            "taxi",
            [self.store],
            machine.remote,
            policy=CachePolicy(lifetime_seconds=200.0, early_refresh_floor_seconds=5.0),
            state=self.state,
            transform=transform if machine.with_transform else None,
            wall_clock=lambda: machine.now,
            steady_clock=lambda: machine.now,
            chance=lambda: 0.5,
        )

    async def follow(self, upto: int | None = None) -> None:
        """Reads the ledger to its end, or applies only some of it."""
        records = self.machine.records
        for record in records[self.state.applied : upto]:
            await self.cache.apply(record)
            if record.cause is Cause.ERASURE:
                self.machine.check_erased(record, self)
        if upto is None:
            self.state.confirm(self.machine.now)


class NeverStale(RuleBasedStateMachine):
    """See the top of this file."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.records: list[InvalidationRecord] = []
        self.now = 1_000.0
        self.version = 0
        self.live = 0

    def teardown(self) -> None:
        self.loop.run_until_complete(self._end())
        self.loop.close()

    async def _end(self) -> None:
        for process in getattr(self, "processes", []):
            await process.cache.close()

    @initialize(with_transform=st.booleans(), eviction=st.sampled_from(["lru", "s3fifo"]))
    def begin(self, with_transform: bool, eviction: str) -> None:
        self.with_transform = with_transform
        self.eviction: Any = eviction
        self.remote = Remote()
        self.processes = [Process(self), Process(self)]
        for process in self.processes:
            process.state.confirm(self.now)

    # --- what is true ----------------------------------------------------------------------------

    async def compute(self, requests: Sequence[RowRequest]) -> list[Computed]:
        answers = [
            Computed(b"%s %d" % (r.fingerprint.encode(), self.version), r.fingerprint)
            for r in requests
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return answers

    def floor(self, request: RowRequest, applied: int) -> int:
        """The oldest state of the world of which an answer to this row may still tell."""
        entry = Entry(request.key, request.row, b"", request.fingerprint, "answer", 0, 0.0, 0.0, 0)
        return max(
            (r.sequence for r in self.records[:applied] if kills(r) and covers(r, entry)),
            default=0,
        )

    def check(self, request: RowRequest, answer: Answer, applied: int) -> None:
        fingerprint, version = answer.data.split()
        assert fingerprint.decode() == request.fingerprint
        assert int(version) >= self.floor(request, applied), (answer, self.records[:applied])

    def check_erased(self, record: InvalidationRecord, process: Process) -> None:
        held = [value for _, value in process.store._shelf.items()]
        for entry in [*held, *self.remote.entries.values()]:
            assert entry.generation >= record.sequence or not covers(record, entry)

    # --- what happens ----------------------------------------------------------------------------

    @rule(place=st.integers(0, 1), rows=SOME_ROWS, pinned=st.none() | st.sampled_from(FINGERPRINTS))
    def ask(self, place: int, rows: list[tuple[str, int]], pinned: str | None) -> None:
        """A request to the live model, or to one of a version that the client names."""
        self.loop.run_until_complete(self.play(self.processes[place], rows, pinned, 0))

    @rule(place=st.integers(0, 1), rows=SOME_ROWS)
    def follow_and_ask(self, place: int, rows: list[tuple[str, int]]) -> None:
        """A request to a process that knows all records."""
        self.follow(place)
        self.ask(place, rows, None)

    @rule(place=st.integers(0, 1), rows=SOME_ROWS, steps=st.integers(1, 4))
    def ask_and_follow(self, place: int, rows: list[tuple[str, int]], steps: int) -> None:
        """A request that is overtaken by records."""
        self.loop.run_until_complete(self.play(self.processes[place], rows, None, steps))

    async def play(
        self, process: Process, rows: list[tuple[str, int]], pinned: str | None, steps: int
    ) -> None:
        requests = [request_for(pinned or FINGERPRINTS[self.live], row) for row in rows]
        begun = process.state.applied

        async def ask() -> tuple[list[Answer], int]:
            answers = await process.cache.get_or_compute(requests, self.compute)
            return answers, process.state.applied

        task = asyncio.ensure_future(ask())
        for _ in range(steps):
            await asyncio.sleep(0)
        if steps:
            await process.follow()
        answers, ended = await task
        # What the model itself said while the request ran counts as of the request's beginning.
        for request, answer in zip(requests, answers, strict=True):
            self.check(request, answer, ended if answer.is_hit else begun)
        await process.cache.drain()

    @rule(place=st.integers(0, 1), row=st.sampled_from(ROWS))
    def look(self, place: int, row: tuple[str, int]) -> None:
        """The quick way, without the model."""
        process = self.processes[place]
        request = request_for(FINGERPRINTS[self.live], row)
        answer = process.cache.find(request)
        if answer is not None:
            self.check(request, answer, process.state.applied)
            assert process.state.is_current()

    def append(self, cause: Cause, selector: Any) -> None:
        record = InvalidationRecord("taxi", len(self.records) + 1, cause, selector, "r", "t", "me")
        self.records.append(record)
        if kills(record):
            self.version = record.sequence

    @rule()
    def move_label(self) -> None:
        """A push or a rollback: answers of the old model stay true of the old model."""
        cause = Cause.ROLLED_BACK if self.live else Cause.MODEL_PUSHED
        self.append(cause, SelectFingerprint(FINGERPRINTS[self.live]))
        self.live = 1 - self.live

    @rule(
        cause=st.sampled_from(KILLS),
        selector=st.one_of(
            st.just(SelectAll()),
            st.sampled_from(FINGERPRINTS).map(SelectFingerprint),
            st.sampled_from(PAYMENTS).map(lambda v: SelectSlice({"payment": v})),
            st.integers(0, 1).map(lambda v: SelectSlice({"hour": str(v)})),
            st.tuples(st.sampled_from(FINGERPRINTS), st.sampled_from(ROWS)).map(
                lambda pair: SelectKeys((request_for(*pair).key.hex(),))
            ),
        ),
    )
    def withdraw(self, cause: Cause, selector: Any) -> None:
        self.append(cause, selector)

    @rule(place=st.integers(0, 1))
    def follow(self, place: int) -> None:
        self.loop.run_until_complete(self.processes[place].follow())

    @rule(place=st.integers(0, 1), upto=st.integers(0, 20))
    def follow_partly(self, place: int, upto: int) -> None:
        self.loop.run_until_complete(self.processes[place].follow(upto))

    @precondition(lambda self: self.records)
    @rule(place=st.integers(0, 1))
    def hear_of_the_newest_early(self, place: int) -> None:
        self.processes[place].state.withdraw_ahead(self.records[-1])

    @rule(seconds=st.sampled_from([1.0, 1.0, 30.0, 199.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds

    @rule(place=st.integers(0, 1), kind=st.integers(0, 5), which=st.integers(0, 50))
    def mishap(self, place: int, kind: int, which: int) -> None:
        process = self.processes[place]
        if kind == 0:  # memory is short
            process.store.clear(FINGERPRINTS[which % 2])
        elif kind == 1:  # the process restarts, and reads the ledger from its beginning
            self.loop.run_until_complete(process.cache.close())
            process.start()
        elif kind == 2:  # the ledger was replaced, as far as the process can tell
            process.state.reset()
        elif kind == 3:
            self.remote.entries.clear()
        else:  # the remote tier is restored from an old copy: what was erased is there again
            for key, entries in self.remote.ever.items():
                self.remote.entries[key] = entries[which % len(entries)]

    @invariant()
    def stays_within_its_budget(self) -> None:
        for process in getattr(self, "processes", []):
            assert process.store.bytes_used <= process.store.budget_bytes


NeverStale.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
test_no_answer_is_ever_one_that_the_live_model_would_not_give = NeverStale.TestCase
