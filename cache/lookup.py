"""Finding an answer in the tiers, and putting what was found where it is found sooner. asyncio.

An entry answers a row only if its key, row and fingerprint are those asked for, it has not expired,
and no invalidation record withdraws it. What is found is stamped with the present generation, so
that it is quick to judge the next time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tfx_encore.cache.entry import Entry
from tfx_encore.cache.invalidation import InvalidationState
from tfx_encore.cache.observer import CacheObserver, HitKind
from tfx_encore.cache.row_request import Answer, RowRequest, Transform, TransformedRow
from tfx_encore.cache.selection import is_transformed
from tfx_encore.cache.tiers import LocalTier, RemoteTier

_new = tuple.__new__  # what Answer(...) does, without its call; for each hit


class Lookup:
    """The tiers of one model, and the rule of what answers a row.

    Args:
        local: tiers in the order in which they are asked.
        remote: the tier behind a network, if there is one.
        state: what has been withdrawn.
        transform: makes transformed rows, if the release certifies them.
        observer: told of hits and of what was withdrawn.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        local: Sequence[LocalTier],
        remote: RemoteTier | None,
        state: InvalidationState,
        *,
        transform: Transform | None,
        observer: CacheObserver,
        wall_clock: Callable[[], float],
    ) -> None:
        self.local = list(local)
        self.remote = remote
        self._tiers = {tier.name: tier for tier in [*self.local, *([remote] if remote else [])]}
        self._state = state
        self._transform = transform
        self._observer = observer
        self._wall_clock = wall_clock
        self.has_slower = remote is not None or transform is not None

    def find(self, request: RowRequest, now: float) -> Answer | None:
        """Returns the answer that a local tier has; the hit is not counted yet."""
        key, row, fingerprint, _, _ = request
        for place, tier in enumerate(self.local):
            entry = tier.get(key)
            if entry is None:
                continue
            kept = self._fitting(entry, row, fingerprint, now, tier)
            if kept is None:
                continue
            if place or kept is not entry:
                for faster in self.local[: max(place, 1)]:
                    faster.put(kept)
            return _new(Answer, (kept, tier.name, "raw"))
        return None

    async def find_remote(self, requests: Sequence[RowRequest]) -> list[Answer | None]:
        """Returns the answers that the remote tier has; they are in the local tiers then."""
        remote = self.remote
        if remote is None:
            return [None] * len(requests)
        entries = await remote.get_many([request.key for request in requests])
        now = self._wall_clock()
        answers: list[Answer | None] = []
        for request, entry in zip(requests, entries, strict=True):
            kept = entry and self._fitting(entry, request.row, request.fingerprint, now, remote)
            answers.append(self._found(Answer(kept, remote.name)) if kept else None)
        return answers

    async def transformed(self, requests: Sequence[RowRequest]) -> list[TransformedRow | None]:
        """Returns the transformed rows; None where there is none, or it cannot be made now."""
        nothing: list[TransformedRow | None] = [None] * len(requests)
        if self._transform is None or not requests:
            return nothing
        try:
            made = list(await self._transform(requests))
        except Exception as error:  # noqa: BLE001 - without it there are only more misses
            self._observer.tier_failed("transform", error)
            return nothing
        if len(made) != len(requests):
            return nothing
        return [row if row is not None and is_transformed(row.row) else None for row in made]

    async def find_transformed(
        self, requests: Sequence[RowRequest], rows: Sequence[TransformedRow | None]
    ) -> list[Answer | None]:
        """Returns the answers that any tier has under the transformed rows.

        Each is remembered under its raw row in the local tiers. The copy bears the generation of
        the original, so that what withdraws that withdraws the copy.
        """
        now = self._wall_clock()
        answers = [
            row and self._share_local(request, row, now)
            for request, row in zip(requests, rows, strict=True)
        ]
        if self.remote is None:
            return answers
        left = [place for place, row in enumerate(rows) if row and not answers[place]]
        entries = await self.remote.get_many([row.key for place in left if (row := rows[place])])
        for place, entry in zip(left, entries, strict=True):
            row = rows[place]
            if row is not None:
                answers[place] = self._share(requests[place], row, entry, now, self.remote)
        return answers

    def keep(self, entries: Sequence[Entry]) -> asyncio.Task[None] | None:
        """Puts entries into every tier; returns the write to the remote one, which is under way."""
        for tier in self.local:
            for entry in entries:
                tier.put(entry)
        if self.remote is None:
            return None
        return self.remote.put_later(entries, self._state.is_valid)

    def count_hit(self, answer: Answer) -> None:
        """Tells the observer of a hit."""
        entry, source, matched = answer
        tier = self._tiers[source]
        tier.hits += 1
        tier.hit_bytes += len(entry.answer)
        kind: HitKind = "negative" if entry.kind == "rejection" else matched
        self._observer.hit(source, kind)

    def _fitting(
        self,
        entry: Entry,
        row: bytes,
        fingerprint: str,
        now: float,
        tier: LocalTier | RemoteTier,
    ) -> Entry | None:
        """The entry, stamped with the present generation, if it answers this row now."""
        if entry.row != row or entry.fingerprint != fingerprint:
            return None
        expires_at = entry.expires_at
        if expires_at and expires_at <= now:
            return None
        kept = self._state.judged(entry)
        if kept is None:
            self._observer.withdrawn(tier.name)
            if isinstance(tier, LocalTier) and entry.generation <= self._state.applied:
                tier.drop(entry.key)
        return kept

    def _share_local(self, request: RowRequest, row: TransformedRow, now: float) -> Answer | None:
        shared = (self._share(request, row, tier.get(row.key), now, tier) for tier in self.local)
        return next((answer for answer in shared if answer is not None), None)

    def _share(
        self,
        request: RowRequest,
        row: TransformedRow,
        entry: Entry | None,
        now: float,
        tier: LocalTier | RemoteTier,
    ) -> Answer | None:
        """The answer of a raw row, by an entry of its transformed row."""
        kept = entry and self._fitting(entry, row.row, request.fingerprint, now, tier)
        if not kept:
            return None
        raw = kept._replace(key=request.key, row=request.row)
        return self._found(Answer(raw, tier.name, "transformed"))

    def _found(self, answer: Answer) -> Answer:
        """Counts an answer and puts it into the local tiers."""
        for tier in self.local:
            tier.put(answer.entry)
        self.count_hit(answer)
        return answer
