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
from typing import Any

from tfx_encore.cache.cache_policy import CachePolicy
from tfx_encore.cache.computing import Computing
from tfx_encore.cache.entry import Entry, LocalStore, RemoteStore
from tfx_encore.cache.invalidation import InvalidationState, needs_erasure
from tfx_encore.cache.leasing import Lease, Leasing
from tfx_encore.cache.lookup import Lookup
from tfx_encore.cache.observer import CacheObserver
from tfx_encore.cache.row_request import Answer, Compute, RowRequest, Transform, TransformedRow
from tfx_encore.cache.single_flight import SingleFlight
from tfx_encore.cache.stats import TierStats
from tfx_encore.cache.tiers import LocalTier, RemoteTier
from tfx_encore.schemas.errors import ConfigError, EncoreError, StoreUnavailableError
from tfx_encore.schemas.records import InvalidationRecord

_Flight = tuple[bytes, bytes, "int | None"]
"""What is computed at most once at a time: key and row, as of a generation."""

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
        lease: of the processes that share `remote`, has one compute a row while the others wait,
            as `cache.redis_lease.RedisLease`; by default each computes what it misses.
        observer: told what happens, for metrics.
        wall_clock: seconds since 1970, for expiry.
        steady_clock: seconds, never going back, for circuit breakers and costs.
        chance: uniform in [0, 1), for jitter and early refresh.

    Raises:
        ConfigError: a lease without a remote tier.
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
        lease: Lease | None = None,
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
        self._computing = Computing(
            model,
            self.policy,
            self.state,
            self._lookup,
            observer=self._observer,
            wall_clock=wall_clock,
            steady_clock=steady_clock,
            chance=chance,
        )
        self._leasing = self._leases(lease)
        self._flights: SingleFlight[_Flight, Answer] = SingleFlight()
        self._tasks: dict[asyncio.Task[None], _Flights] = {}
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

    def find_all(self, rows: Sequence[RowRequest]) -> list[Answer] | None:
        """Returns the answers to all rows if the local tiers have every one, as `find` does.

        Hits are counted only then; otherwise they are when `get_or_compute` finds them again.
        """
        if not self.state.is_current():
            return None
        now = self._wall_clock()
        answers = []
        for row in rows:
            answer = self._lookup.find(row, now)
            if answer is None or self._is_due(answer.entry, now):
                return None
            answers.append(answer)
        for answer in answers:
            self._lookup.count_hit(answer)
        return answers

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
        answers, missing = self._find_all(rows, compute)
        if not missing:
            return answers  # type: ignore[return-value]
        await self._fill(rows, answers, missing, compute)
        found: list[Answer] = answers  # type: ignore[assignment]
        if self.state.changes != changes:
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

    def stats(self) -> list[TierStats]:
        """Returns what each tier holds and has given, in the order in which they are asked; cheap.

        A file that other processes write is counted as a whole.
        """
        found = [tier.stats() for tier in self.local]
        return [*found, self.remote.stats()] if self.remote else found

    async def fingerprints(self) -> dict[str, dict[str, int]]:
        """Returns local tier -> fingerprint -> entries; may look at every entry of a file.

        Raises:
            StoreUnavailableError: a tier cannot be looked at now.
        """
        return {tier.name: await tier.fingerprints() for tier in self.local}

    async def sample(self, count: int, fingerprint: str | None = None) -> dict[str, list[Entry]]:
        """Returns local tier -> up to `count` of its entries at random; may look at all of them.

        What is found has not been judged: it may be expired or withdrawn, and an entry kept by its
        transformed row has that as its row.

        Args:
            count: how many of each tier.
            fingerprint: whose; None for any.

        Raises:
            StoreUnavailableError: a tier cannot be looked at now.
        """
        return {tier.name: await tier.sample(count, fingerprint) for tier in self.local}

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

    def _find_all(
        self, rows: Sequence[RowRequest], compute: Compute
    ) -> tuple[list[Answer | None], list[int]]:
        """What the local tiers know, and the places of what they do not.

        Rows due for early refresh are computed in the background.
        """
        if not self.state.is_current():
            self._observer.withheld(len(rows))
            return [None] * len(rows), list(range(len(rows)))
        now = self._wall_clock()
        find = self._lookup.find
        answers: list[Answer | None] = []
        missing, due = [], []
        for place, row in enumerate(rows):
            answer = find(row, now)
            answers.append(answer)
            if answer is None:
                missing.append(place)
                continue
            self._lookup.count_hit(answer)
            if self._is_due(answer.entry, now):
                due.append(row)
        if due:
            self._refresh(due, compute)
        return answers, missing

    # --- what is in no local tier ----------------------------------------------------------------

    async def _fill(
        self,
        rows: Sequence[RowRequest],
        answers: list[Answer | None],
        missing: Sequence[int],
        compute: Compute,
    ) -> None:
        generation = self.state.generation
        of_place: list[_Flight] = []
        flights: _Flights = {}
        for at in missing:
            request = rows[at]
            flight = (request.key, request.row, generation)
            of_place.append(flight)
            flights.setdefault(flight, request)
        mine, wait = self._flights.join(flights)
        self._observer.missed(len(missing))
        if len(mine) < len(missing):
            self._observer.coalesced(len(missing) - len(mine))
        if mine:
            alone = len(mine) == len(flights)
            begun = flights if alone else {flight: flights[flight] for flight in mine}
            self._begin(self._settle(begun, compute), begun)
        results = await wait.results()
        if len(flights) < len(missing):
            of_flight = dict(zip(flights, results, strict=True))
            results = [of_flight[flight] for flight in of_place]
        for at, answer in zip(missing, results, strict=True):
            answers[at] = answer

    def _begin(self, work: Coroutine[Any, Any, None], flights: _Flights) -> None:
        """Runs work that outlives the caller, so that its cancellation stops nobody else's."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = flights
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        flights = self._tasks.pop(task)
        if task.cancelled():
            self._flights.fail(flights, EncoreError("the cache was closed meanwhile"))

    async def _settle(self, flights: _Flights, compute: Compute) -> None:
        """Answers everyone who waits for these flights, by the slower tiers or by the model."""
        left = flights
        made: list[TransformedRow | None] = []
        try:
            if self._lookup.has_slower and self.state.is_current():
                left = self._take(left, await self._lookup.find_remote(list(left.values())))
                requests = list(left.values())
                made = await self._lookup.transformed(requests)
                found = await self._lookup.find_transformed(requests, made)
                made = [row for row, answer in zip(made, found, strict=True) if answer is None]
                left = self._take(left, found)
            if left and self._leasing is not None:
                left = dict(left)
                await self._compute_leased(left, made, compute)
            elif left:
                await self._compute(left, made, compute)
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

    def _leases(self, lease: Lease | None) -> Leasing | None:
        if lease is None:
            return None
        if self.remote is None:
            raise ConfigError(f"model {self.model!r}: a lease needs a remote tier to wait for")
        return Leasing(
            lease,
            self.remote,
            self._lookup,
            self._computing,
            state=self.state,
            observer=self._observer,
        )

    async def _compute_leased(
        self, left: _Flights, shared: Sequence[TransformedRow | None], compute: Compute
    ) -> None:
        """The same, each row as soon as it is there; what is settled leaves `left`."""
        flights, requests = list(left), list(left.values())
        leasing = self._leasing
        if leasing is None or not leasing.serves(requests):
            await self._compute(left, shared, compute)
            return

        def settle(place: int, answer: Answer) -> None:
            del left[flights[place]]
            self._flights.settle(flights[place], answer)

        await leasing.call(requests, compute, shared, settle)

    async def _compute(
        self, left: _Flights, shared: Sequence[TransformedRow | None], compute: Compute
    ) -> None:
        answers, _ = await self._computing.call(list(left.values()), compute, shared)
        for flight, answer in zip(left, answers, strict=True):
            self._flights.settle(flight, answer)

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
        made, _ = await self._computing.call(list(requests.values()), compute)
        of_row = dict(zip(requests, made, strict=True))
        for place in withdrawn:
            answers[place] = of_row[rows[place].key, rows[place].row]

    # --- early refresh ---------------------------------------------------------------------------

    def _is_due(self, entry: Entry, now: float) -> bool:
        expires_at = entry.expires_at
        left = expires_at - now
        if not expires_at or (left > self._early and left > self._eager * entry.cost_us):
            return False
        return self.policy.is_due(expires_at, entry.cost_us, now, self._chance())

    def _refresh(self, rows: Sequence[RowRequest], compute: Compute) -> None:
        """Computes rows in the background; whoever misses them meanwhile waits for the same."""
        if self._refreshes >= self.policy.max_refreshes:
            return
        generation = self.state.generation
        flights = {(row.key, row.row, generation): row for row in rows}
        mine = self._flights.begin(flights)
        if mine:
            self._refreshes += 1
            self._observer.refreshing(len(mine))
            begun = {flight: flights[flight] for flight in mine}
            self._begin(self._refresh_rows(begun, compute), begun)

    async def _refresh_rows(self, flights: _Flights, compute: Compute) -> None:
        try:
            await self._compute(flights, (), compute)
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
