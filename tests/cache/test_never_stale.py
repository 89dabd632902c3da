"""The rule of the product: no answer that the live model would not give at that moment.

Two processes share a remote tier; each follows the ledger at its own pace. The world changes only
with a record: whatever a record withdraws, the model would answer otherwise from then on. Random
sequences of requests, pushes, rollbacks, withdrawals, erasures, expiry, eviction, restarts, lost,
stale and lying tiers are played, and every answer is judged: it says itself which model saw what of
which row, in which state of the world and when. What the judge knows it has not from the cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
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
ROWS = [(payment, hour) for payment in PAYMENTS for hour in range(3)]
KILLS = [Cause.DATA_DRIFT, Cause.MANUAL, Cause.ERASURE]
BOUND, LIFETIME = 60.0, 200.0


SELECTORS = st.sampled_from(["keys", "slice", "fingerprint", "all"])
SOME_ROWS = st.lists(st.sampled_from(ROWS), min_size=1, max_size=4)


def request_for(fingerprint: str, row: tuple[str, int]) -> RowRequest:
    data = encode_row({"payment": cell(row[0]), "hour": cell(row[1])})
    key = KeyMaker(fingerprint, "s").key(data)
    return RowRequest(key, data, fingerprint, "s")


def half_of(request: RowRequest) -> bytes:
    """All that the model sees of a row where there is a transformation."""
    hour = int(to_array(decode_row(request.row)["hour"]))
    return encode_row({"half": cell(hour // 2)})


def keys_of(fingerprint: str, row: tuple[str, int]) -> tuple[bytes, bytes]:
    """The raw and the transformed key of a row."""
    request = request_for(fingerprint, row)
    return request.key, transformed_row(KeyMaker(fingerprint, "s"), half_of(request)).key


async def transform(requests: Sequence[RowRequest]) -> list[Any]:
    return [transformed_row(KeyMaker(r.fingerprint, "s"), half_of(r)) for r in requests]


class Remote:
    """Shared by the processes; may lose entries, hand back old ones, and those of other rows."""

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


class ErasingRemote(Remote):
    """One that can look at its entries."""

    async def erase(self, covered: Callable[[Entry], bool]) -> int:
        return await self.remove([key for key, entry in self.entries.items() if covered(entry)])


class Process:
    """One process: its memory, what it knows of the ledger, and its cache."""

    def __init__(self, machine: NeverStale) -> None:
        self.machine = machine
        self.start()

    def start(self) -> None:
        machine = self.machine
        self.read_at: float | None = None
        self.heard: list[InvalidationRecord] = []
        self.store = MemoryStore(9_000, eviction=machine.eviction)
        self.state = InvalidationState("taxi", BOUND, lambda: machine.now)
        self.cache = InferenceCache(
            "taxi",
            [self.store],
            machine.remote,
            policy=CachePolicy(lifetime_seconds=LIFETIME, early_refresh_floor_seconds=5.0),
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
            self.confirm()

    def confirm(self) -> None:
        """Everything in the ledger is known now."""
        self.state.confirm(self.machine.now)
        self.read_at = self.machine.now

    def reset(self) -> None:
        """Nothing is known."""
        self.state.reset()
        self.read_at = None
        self.heard = []

    def is_current(self) -> bool:
        """Whether it may serve what it did not compute."""
        return self.read_at is not None and self.machine.now - self.read_at <= BOUND


class NeverStale(RuleBasedStateMachine):
    """See the top of this file."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.records: list[InvalidationRecord] = []
        self.now = 1_000.0
        self.version = 0
        self.live = 0
        self.meanwhile: Callable[[], Awaitable[None]] | None = None  # while the model computes

    def teardown(self) -> None:
        self.loop.run_until_complete(self._end())
        self.loop.close()

    async def _end(self) -> None:
        for process in getattr(self, "processes", []):
            await process.cache.close()

    @initialize(
        with_transform=st.booleans(),
        erases=st.booleans(),
        eviction=st.sampled_from(["lru", "s3fifo"]),
    )
    def begin(self, with_transform: bool, erases: bool, eviction: str) -> None:
        self.with_transform = with_transform
        self.eviction: Any = eviction
        self.remote = ErasingRemote() if erases else Remote()
        self.processes = [Process(self), Process(self)]
        for process in self.processes:
            process.confirm()

    # --- what is true ----------------------------------------------------------------------------

    async def compute(self, requests: Sequence[RowRequest]) -> list[Computed]:
        answers = [
            Computed(
                b"%s %s %d %f" % (r.fingerprint.encode(), self.seen_of(r), self.version, self.now),
                r.fingerprint,
            )
            for r in requests
        ]
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return answers

    def seen_of(self, request: RowRequest) -> bytes:
        """What the model sees of a row."""
        return (half_of(request) if self.with_transform else request.row).hex().encode()

    def floor(self, request: RowRequest, records: Sequence[InvalidationRecord]) -> int:
        """The oldest state of the world of which an answer to this row may still tell."""
        entry = Entry(request.key, request.row, b"", request.fingerprint, "answer", 0, 0.0, 0.0, 0)
        return max((r.sequence for r in records if kills(r) and covers(r, entry)), default=0)

    def check(self, request: RowRequest, answer: Answer, known: list[InvalidationRecord]) -> None:
        fingerprint, seen, version, at = answer.data.split()
        assert fingerprint.decode() == request.fingerprint
        assert seen == self.seen_of(request)
        assert int(version) >= self.floor(request, known), (answer, known)
        assert self.now - float(at) < LIFETIME

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
        begun, was_current = process.state.applied, process.is_current()

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
            known = self.records[: ended if answer.is_hit else begun]
            self.check(request, answer, known + process.heard if answer.is_hit else known)
            assert not answer.is_hit or was_current or process.is_current()
        await process.cache.drain()

    @rule(place=st.integers(0, 1), rows=SOME_ROWS, cause=st.sampled_from(KILLS), how=SELECTORS)
    def withdraw_while_the_model_computes(
        self, place: int, rows: list[tuple[str, int]], cause: Cause, how: str
    ) -> None:
        """A record comes after the model looked at the world, and then the same is asked again."""
        process, again = self.processes[place], []

        async def meanwhile() -> None:
            self.append(cause, self.selector_of(how, rows[0]))
            await process.follow()
            again.append(asyncio.ensure_future(self.play(process, rows, None, 0)))

        async def play() -> None:
            self.meanwhile = meanwhile
            await self.play(process, rows, None, 0)
            self.meanwhile = None
            await asyncio.gather(*again)

        self.loop.run_until_complete(play())
        self.ask(place, rows, None)

    @rule(
        place=st.integers(0, 1),
        rows=SOME_ROWS,
        cause=st.sampled_from(KILLS),
        how=SELECTORS,
        early=st.booleans(),
    )
    def withdraw_what_was_asked(
        self, place: int, rows: list[tuple[str, int]], cause: Cause, how: str, early: bool
    ) -> None:
        """What has just been asked is withdrawn, and asked again by one who knows, or has heard."""
        self.follow_and_ask(place, rows)
        self.append(cause, self.selector_of(how, rows[0]))
        if early:
            self.hear_of_the_newest_early(place)
        else:
            self.follow(place)
        self.ask(place, rows, None)

    @rule(place=st.integers(0, 1), rows=SOME_ROWS, cause=st.sampled_from(KILLS), how=SELECTORS)
    def hear_out_of_order(
        self, place: int, rows: list[tuple[str, int]], cause: Cause, how: str
    ) -> None:
        """The second of two records is heard of first, and does not withdraw what was asked."""
        self.follow_and_ask(place, rows)
        self.append(cause, self.selector_of(how, rows[0]))
        self.append(cause, SelectKeys(("00" * 32,)))
        self.hear_of_the_newest_early(place)
        self.ask(place, rows, None)
        self.follow_and_ask(place, rows)

    def selector_of(self, how: str, row: tuple[str, int]) -> Any:
        fingerprint = FINGERPRINTS[self.live]
        if how == "keys":
            return SelectKeys((request_for(fingerprint, row).key.hex(),))
        if how == "slice":
            return SelectSlice({"payment": row[0], "hour": str(row[1])})
        return SelectFingerprint(fingerprint) if how == "fingerprint" else SelectAll()

    @rule(place=st.integers(0, 1), row=st.sampled_from(ROWS))
    def look(self, place: int, row: tuple[str, int]) -> None:
        """The quick way, without the model."""
        process = self.processes[place]
        request = request_for(FINGERPRINTS[self.live], row)
        answer = process.cache.find(request)
        if answer is not None:
            self.check(request, answer, self.records[: process.state.applied] + process.heard)
            assert process.is_current()

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
        self.processes[place].heard.append(self.records[-1])

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
            process.reset()
        elif kind == 3:
            self.remote.entries.clear()
        else:  # the remote tier is restored from an old copy: what was erased is there again
            for key, entries in self.remote.ever.items():
                self.remote.entries[key] = entries[which % len(entries)]

    @rule(
        place=st.integers(0, 1),
        fingerprint=st.sampled_from(FINGERPRINTS),
        row=st.sampled_from(ROWS),
        other=st.sampled_from(FINGERPRINTS) | st.sampled_from(ROWS),
    )
    def lie(self, place: int, fingerprint: str, row: tuple[str, int], other: Any) -> None:
        """The remote tier hands out what another model says of the row, or what of another row."""
        told = (other, row) if isinstance(other, str) else (fingerprint, other)
        self.follow(place)
        self.ask(place, [told[1]], told[0])
        false, true = keys_of(fingerprint, row), keys_of(*told)
        for key, other_key in zip(false, true, strict=True):
            if entry := self.remote.entries.get(other_key):
                self.remote.entries[key] = entry._replace(key=key)
        self.processes[place].store.clear()
        self.ask(place, [row], fingerprint)

    @invariant()
    def stays_within_its_budget(self) -> None:
        for process in getattr(self, "processes", []):
            assert process.store.bytes_used <= process.store.budget_bytes


NeverStale.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
test_no_answer_is_ever_one_that_the_live_model_would_not_give = NeverStale.TestCase
