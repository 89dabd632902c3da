"""Calling the model for rows that are in no tier, and keeping what it says. asyncio.

What is kept bears the generation from before the call, so that a record applied while it ran
withdraws it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tfx_encore.cache.cache_policy import CachePolicy
from tfx_encore.cache.entry import Entry
from tfx_encore.cache.invalidation import InvalidationState
from tfx_encore.cache.lookup import Lookup
from tfx_encore.cache.observer import CacheObserver
from tfx_encore.cache.row_request import (
    COMPUTED,
    Answer,
    Compute,
    Computed,
    RowRequest,
    TransformedRow,
)
from tfx_encore.schemas.errors import ModelError


class Computing:
    """Calls the model of an `InferenceCache`.

    Args:
        model: the model's name.
        policy: what is kept and for how long.
        state: what has been withdrawn.
        lookup: the tiers that keep answers.
        observer: told what was computed, and what was not kept.
        wall_clock: seconds since 1970, for expiry.
        steady_clock: seconds, never going back, for costs.
        chance: uniform in [0, 1), for the jitter of lifetimes.
    """

    def __init__(
        self,
        model: str,
        policy: CachePolicy,
        state: InvalidationState,
        lookup: Lookup,
        *,
        observer: CacheObserver,
        wall_clock: Callable[[], float],
        steady_clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._model = model
        self._policy = policy
        self._max_entry = policy.max_entry_bytes
        self._state = state
        self._lookup = lookup
        self._observer = observer
        self._wall_clock = wall_clock
        self._steady_clock = steady_clock
        self._chance = chance

    async def call(
        self,
        requests: Sequence[RowRequest],
        compute: Compute,
        shared: Sequence[TransformedRow | None] = (),
    ) -> tuple[list[Answer], asyncio.Task[None] | None]:
        """Calls the model once and keeps what it says.

        Args:
            requests: what to compute.
            compute: the model.
            shared: the transformed row of each request, under which its answer is kept too; empty
                if there are none.

        Returns:
            An answer for each row, in their order; and the write to the remote tier that is under
            way, None if there is none.

        Raises:
            ModelError: another number of answers, or another model's.
            Exception: whatever `compute` raised.
        """
        generation = self._state.generation
        begun = self._steady_clock()
        results = await compute(requests)
        seconds = max(self._steady_clock() - begun, 0.0)
        if len(results) != len(requests):
            raise ModelError(f"the model gave {len(results)} answers for {len(requests)} rows")
        self._observer.computed(len(requests), seconds)
        now = self._wall_clock()
        entries = self._entries(requests, results, generation or 0, now, seconds)
        write = None
        if generation is not None:
            copies = [
                entry._replace(key=row.key, row=row.row)
                for entry, row in zip(entries, shared)  # noqa: B905 - `shared` may be empty
                if row is not None
            ]
            write = self._keep(entries + copies if copies else entries, now)
        return [Answer(entry, COMPUTED) for entry in entries], write

    def _entries(
        self,
        requests: Sequence[RowRequest],
        results: Sequence[Computed],
        generation: int,
        now: float,
        seconds: float,
    ) -> list[Entry]:
        """The answers as entries; refuses those of another model than was asked."""
        cost = seconds * 1e6 / len(requests)
        entries = []
        for request, (answer, of, kind) in zip(requests, results, strict=True):
            key, row, fingerprint, signature, _ = request
            if of != fingerprint:
                raise ModelError(
                    f"model {of!r} answered a row that was asked of {fingerprint!r}; send each "
                    "row to the model that it names"
                )
            if kind == "rejection":
                end = self._policy.rejection_expires_at(now, self._chance())
            else:
                end = self._policy.expires_at(self._model, signature, now, self._chance())
            entries.append(Entry(key, row, answer, of, kind, generation, now, end, cost))
        return entries

    def _keep(self, entries: Sequence[Entry], now: float) -> asyncio.Task[None] | None:
        most, is_valid = self._max_entry, self._state.is_valid
        kept, late = [], 0
        for entry in entries:
            key, row, answer, _, _, _, _, end, _ = entry
            if (end and end <= now) or len(key) + len(row) + len(answer) > most:
                continue
            if is_valid(entry):
                kept.append(entry)
            else:
                late += 1
        if late:
            self._observer.not_stored(late)
        return self._lookup.keep(kept)
