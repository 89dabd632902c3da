"""The inference cache of one model: tiers, single flight, expiry and invalidation. asyncio.

    local tiers in order -> remote tier -> transformed key -> one call of the model

What answers a row is said in `cache.lookup`; besides, the ledger must have been read to its end not
too long ago. Whatever else a tier does costs a miss. See docs/cache.md for what is guaranteed.

Everything here runs on one event loop. A store belongs to one model, because generations do.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from tfx_encore.cache.cache_policy import CachePolicy
from tfx_encore.cache.entry import Entry, LocalStore, RemoteStore
from tfx_encore.cache.invalidation import InvalidationState, needs_erasure
from tfx_encore.cache.lookup import Lookup
from tfx_encore.cache.observer import CacheObserver
from tfx_encore.cache.row_request import (
    COMPUTED,
    Answer,
    Compute,
    Computed,
    RowRequest,
    Transform,
    TransformedRow,
)
from tfx_encore.cache.single_flight import SingleFlight, wait_for_all
from tfx_encore.cache.tiers import LocalTier, RemoteTier
from tfx_encore.schemas.errors import EncoreError, ModelError, StoreUnavailableError
from tfx_encore.schemas.records import InvalidationRecord


class _Flight(NamedTuple):
    """What is computed at most once at a time: a row as of a generation."""

    key: bytes
    row: bytes
    generation: int | None


_Flights = dict[_Flight, RowRequest]


class InferenceCache:
    """Answers rows from its tiers, and the missing ones by one call of the model.

    Args:
        model: the model's name.
        local: stores in the order in which they are asked, fastest first.
        remote: a store behind a network, asked after them.
        policy: what is kept and for how long.
        state: what has been withdrawn; by default nothing ever is. Give the one that a
            `cache.follower.Follower` keeps.
        transform: makes transformed rows where the release certifies that the model reads nothing
            else.
        observer: told what happens, for metrics.
        wall_clock: seconds since 1970, for expiry.
        steady_clock: seconds, never going back, for circuit breakers and costs.
        chance: uniform in [0, 1), for jitter and early refresh.
    """

    def __init__(
        self,
        model: str,
        local: Sequence[LocalStore],
        remote: RemoteStore | None = None,
        *,
        policy: CachePolicy | None = None,
        state: InvalidationState | None = None,
        transform: Transform | None = None,
        observer: CacheObserver | None = None,
        wall_clock: Callable[[], float] = time.time,
        steady_clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.model = model
        self.policy = policy or CachePolicy()
        self.state = state or InvalidationState(model, None, steady_clock)
        self._observer = observer or CacheObserver()
        self._wall_clock = wall_clock
        self._steady_clock = steady_clock
        self._chance = chance
        tiers = [LocalTier(store, self.policy, steady_clock, self._observer) for store in local]
        behind = (
            None
            if remote is None
            else RemoteTier(remote, self.policy, steady_clock, self._observer)
        )
        self._lookup = Lookup(
            tiers,
            behind,
            self.state,
            transform=transform,
            observer=self._observer,
            wall_clock=wall_clock,
        )
        self._flights: SingleFlight[_Flight, Answer] = SingleFlight()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refreshes = 0
        # Outside this window nothing is due: spares most hits a logarithm.
        self._early = self.policy.refresh_window(0.0)
        self._eager = 16e-6 * self.policy.early_refresh

    @property
    def local(self) -> Sequence[LocalTier]:
        """The local tiers, fastest first."""
        return self._lookup.local

    @property
    def remote(self) -> RemoteTier | None:
        """The tier behind a network."""
        return self._lookup.remote

    def find(self, request: RowRequest) -> Answer | None:
        """Returns the row's answer if a local tier has it, without waiting for anything.

        A row that is due for early refresh is left to `get_or_compute`.
        """
        if not self.state.is_current():
            self._observer.withheld(1)
            return None
        now = self._wall_clock()
        answer = self._lookup.find(request, now)
        if answer is None or self._is_due(answer.entry, now):
            return None
        self._lookup.count_hit(answer)
        return answer

    async def get_or_compute(self, rows: Sequence[RowRequest], compute: Compute) -> list[Answer]:
        """Answers rows, in their order.

        Args:
            rows: of one request; equal rows are computed once.
            compute: called at most once with the rows that are nowhere and not under way, each
                once, in order; and once more if an invalidation withdrew an answer meanwhile.

        Raises:
            ModelError: `compute` returned another number of rows, or another model's answers.
            Exception: whatever `compute` raised; it reaches everyone who waits for those rows.
        """
        changes = self.state.changes
        answers = self._find_all(rows, compute)
        missing = [place for place, answer in enumerate(answers) if answer is None]
        if missing:
            await self._fill(rows, answers, missing, compute)
        found = [answer for answer in answers if answer is not None]
        if missing and self.state.changes != changes:
            await self._replace_withdrawn(rows, found, compute)
        return found

    async def apply(self, record: InvalidationRecord) -> None:
        """Applies the next invalidation record; an erasure has left every tier on return.

        A follower does the two apart: `state.apply` at once, `erase` as often as it takes.

        Raises:
            LedgerError: not the next record.
            StoreUnavailableError: a tier could not be erased. The record is applied nevertheless:
                nothing that it covers is served; call `erase` again.
        """
        self.state.apply(record)
        if needs_erasure(record):
            await self.erase(record)

    async def erase(self, record: InvalidationRecord) -> None:
        """Removes the bytes of what a record covers from every tier.

        Raises:
            StoreUnavailableError: a tier could not; all others have.
        """
        await self._in_every_tier(lambda tier: tier.erase(record))

    async def forget(self, fingerprint: str | None = None) -> None:
        """Removes the entries of a fingerprint that retention has given up; None for all.

        Raises:
            StoreUnavailableError: a tier could not; all others have.
        """
        await self._in_every_tier(lambda tier: tier.clear(fingerprint))

    async def drain(self) -> None:
        """Waits for computations, refreshes and writes that are under way."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        if self.remote:
            await self.remote.drain()

    async def close(self) -> None:
        """Stops what is under way and closes the stores."""
        for task in self._tasks:
            task.cancel()
        await self.drain()
        if self.remote:
            await self.remote.close()
        for tier in self.local:
            tier.close()

    def _find_all(self, rows: Sequence[RowRequest], compute: Compute) -> list[Answer | None]:
        """What the local tiers know; rows due for early refresh are computed in the background."""
        if not self.state.is_current():
            self._observer.withheld(len(rows))
            return [None] * len(rows)
        now = self._wall_clock()
        answers = [self._lookup.find(row, now) for row in rows]
        due = []
        for row, answer in zip(rows, answers, strict=True):
            if answer is not None:
                self._lookup.count_hit(answer)
                if self._is_due(answer.entry, now):
                    due.append(row)
        if due:
            self._refresh(due, compute)
        return answers

    # --- what is in no local tier ----------------------------------------------------------------

    async def _fill(
        self,
        rows: Sequence[RowRequest],
        answers: list[Answer | None],
        missing: Sequence[int],
        compute: Compute,
    ) -> None:
        generation = self.state.generation
        of_place = [_Flight(rows[at].key, rows[at].row, generation) for at in missing]
        flights = {flight: rows[at] for flight, at in zip(of_place, missing, strict=True)}
        mine, futures = self._flights.join(flights)
        self._observer.missed(len(missing))
        if len(mine) < len(missing):
            self._observer.coalesced(len(missing) - len(mine))
        if mine:
            begun = {flight: flights[flight] for flight in mine}
            self._begin(self._settle(begun, compute), begun)
        results = dict(zip(flights, await wait_for_all(futures), strict=True))
        for at, flight in zip(missing, of_place, strict=True):
            answers[at] = results[flight]

    def _begin(self, work: Coroutine[Any, Any, None], flights: _Flights) -> None:
        """Runs work that outlives the caller, so that its cancellation stops nobody else's."""

        def end(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                self._flights.fail(flights, EncoreError("the cache was closed meanwhile"))

        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(end)

    async def _settle(self, flights: _Flights, compute: Compute) -> None:
        """Answers everyone who waits for these flights, by the slower tiers or by the model."""
        left = flights
        shared: dict[_Flight, TransformedRow | None] = {}
        try:
            if self.state.is_current():
                left = self._take(left, await self._lookup.find_remote(list(left.values())))
                requests = list(left.values())
                made = await self._lookup.transformed(requests)
                shared = dict(zip(left, made, strict=True))
                left = self._take(left, await self._lookup.find_transformed(requests, made))
            if left:
                await self._compute(left, shared, compute)
        except Exception as error:  # noqa: BLE001 - it is raised where the answers are waited for
            # What was settled may be under way again, for somebody else.
            self._flights.fail(left, error)

    def _take(self, left: _Flights, answers: Sequence[Answer | None]) -> _Flights:
        """Settles what was found; returns what is still missing."""
        for flight, answer in zip(left, answers, strict=True):
            if answer is not None:
                self._flights.settle(flight, answer)
        return {
            flight: request
            for (flight, request), answer in zip(left.items(), answers, strict=True)
            if answer is None
        }

    # --- computing -------------------------------------------------------------------------------

    async def _compute(
        self, left: _Flights, shared: dict[_Flight, TransformedRow | None], compute: Compute
    ) -> None:
        rows = [shared.get(flight) for flight in left]
        answers = await self._call(list(left.values()), compute, rows)
        for flight, answer in zip(left, answers, strict=True):
            self._flights.settle(flight, answer)

    async def _call(
        self,
        requests: Sequence[RowRequest],
        compute: Compute,
        shared: Sequence[TransformedRow | None],
    ) -> list[Answer]:
        """Calls the model once and keeps what it says.

        What is stored bears the generation from before the call, so that a record applied while it
        ran withdraws it.
        """
        generation = self.state.generation
        begun = self._steady_clock()
        results = await compute(requests)
        seconds = max(self._steady_clock() - begun, 0.0)
        _check(requests, results)
        self._observer.computed(len(requests), seconds)
        now, cost = self._wall_clock(), seconds * 1e6 / len(requests)
        entries = [
            self._entry(request, result, generation or 0, now, cost)
            for request, result in zip(requests, results, strict=True)
        ]
        if generation is not None:
            copies = [
                entry._replace(key=row.key, row=row.row)
                for entry, row in zip(entries, shared, strict=True)
                if row is not None
            ]
            self._keep([*entries, *copies], now)
        return [Answer(entry, COMPUTED) for entry in entries]

    def _entry(
        self, request: RowRequest, result: Computed, generation: int, now: float, cost: float
    ) -> Entry:
        if result.kind == "rejection":
            end = self.policy.rejection_expires_at(now, self._chance())
        else:
            end = self.policy.expires_at(self.model, request.signature, now, self._chance())
        return Entry(
            *(request.key, request.row, result.answer, request.fingerprint, result.kind),
            *(generation, now, end, cost),
        )

    def _keep(self, entries: Sequence[Entry], now: float) -> None:
        most = self.policy.max_entry_bytes
        fitting = [
            entry
            for entry in entries
            if entry.size <= most and (not entry.expires_at or entry.expires_at > now)
        ]
        kept = [entry for entry in fitting if self.state.is_valid(entry)]
        if len(kept) < len(fitting):
            self._observer.not_stored(len(fitting) - len(kept))
        self._lookup.keep(kept)

    async def _replace_withdrawn(
        self, rows: Sequence[RowRequest], answers: list[Answer], compute: Compute
    ) -> None:
        """Computes anew what came from a tier and was withdrawn while the rest was computed."""
        withdrawn = [
            place
            for place, answer in enumerate(answers)
            if answer.is_hit and not self.state.is_valid(answer.entry)
        ]
        if not withdrawn:
            return
        requests = {(rows[place].key, rows[place].row): rows[place] for place in withdrawn}
        fresh = await self._call(list(requests.values()), compute, [None] * len(requests))
        of_row = dict(zip(requests, fresh, strict=True))
        for place in withdrawn:
            answers[place] = of_row[rows[place].key, rows[place].row]

    # --- early refresh ---------------------------------------------------------------------------

    def _is_due(self, entry: Entry, now: float) -> bool:
        expires_at = entry.expires_at
        if not expires_at or expires_at - now > max(self._early, self._eager * entry.cost_us):
            return False
        return self.policy.is_due(expires_at, entry.cost_us, now, self._chance())

    def _refresh(self, rows: Sequence[RowRequest], compute: Compute) -> None:
        """Computes rows in the background; whoever misses them meanwhile waits for the same."""
        if self._refreshes >= self.policy.max_refreshes:
            return
        generation = self.state.generation
        flights = {_Flight(row.key, row.row, generation): row for row in rows}
        mine, _ = self._flights.join(flights)
        if mine:
            self._refreshes += 1
            self._observer.refreshing(len(mine))
            begun = {flight: flights[flight] for flight in mine}
            self._begin(self._refresh_rows(begun, compute), begun)

    async def _refresh_rows(self, flights: _Flights, compute: Compute) -> None:
        try:
            await self._compute(flights, {}, compute)
        except Exception as error:  # noqa: BLE001 - the present answer stays until it expires
            self._flights.fail(flights, error)
        finally:
            self._refreshes -= 1

    async def _in_every_tier(
        self, work: Callable[[LocalTier | RemoteTier], Coroutine[Any, Any, None]]
    ) -> None:
        """Does it in all of them, then raises if one failed."""
        tiers: list[LocalTier | RemoteTier] = list(self.local)
        tiers += [self.remote] if self.remote else []
        results = await asyncio.gather(*map(work, tiers), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            told = "; ".join(str(failure) for failure in failures)
            raise StoreUnavailableError(f"model {self.model!r}: {told}") from failures[0]


def _check(requests: Sequence[RowRequest], results: Sequence[Computed]) -> None:
    """Refuses answers that are not one for each row, from the model that was asked."""
    if len(results) != len(requests):
        raise ModelError(f"the model gave {len(results)} answers for {len(requests)} rows")
    for request, result in zip(requests, results, strict=True):
        if result.fingerprint != request.fingerprint:
            raise ModelError(
                f"model {result.fingerprint!r} answered a row that was asked of "
                f"{request.fingerprint!r}; send each row to the model that it names"
            )
