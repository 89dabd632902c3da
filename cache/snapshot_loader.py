"""Loads CacheWarmer's snapshots into the stores of a cache, before the label moves.

Entries are loaded most frequent first, so that a store that fills up has the head. Local stores are
filled up to a share of their budget: what is left stays with the release before.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tfx_encore.cache.entry import Entry
from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.row_request import transformed_row
from tfx_encore.cache.snapshot import Opener, SnapshotMeta, read_entries, verify_snapshot
from tfx_encore.cache.tiers import LocalTier
from tfx_encore.schemas.errors import SnapshotError

Transformed = Callable[[str, bytes], "bytes | None"]
"""Signature and canonical row -> the row as the model's transformation leaves it, None for none."""

_BATCH = 256
_OVERHEAD = 500  # bytes that a local store adds to an entry, about


@dataclass(frozen=True)
class LoadReport:
    """What was loaded.

    Attributes:
        fingerprint: of the model whose answers these are.
        entries: in the snapshot.
        withdrawn: of these, withdrawn by a record that the snapshot may not know of.
        loaded: tier -> entries that it was given.
    """

    fingerprint: str
    entries: int
    withdrawn: int
    loaded: dict[str, int]


async def load_snapshot(
    cache: InferenceCache,
    directory: str,
    fingerprint: str,
    *,
    generation: int | None = None,
    transformed: Transformed | None = None,
    opener: Opener = open,
    wall_clock: Callable[[], float] = time.time,
    chance: Callable[[], float] = random.random,
) -> LoadReport:
    """Verifies a snapshot, then puts its entries into every tier of a cache.

    Nothing is loaded from one that is damaged. The event loop is not held up for longer than a
    batch of puts.

    Args:
        cache: of the model; its state must have been established.
        directory: of the snapshot.
        fingerprint: of the release that it is to warm.
        generation: sequence of the newest record of the model when the answers were computed;
            by default what the snapshot says. 0 is "nobody knows": every withdrawal in the
            ledger's history counts.
        transformed: makes the transformed row of a signature's canonical row; each answer is then
            kept under it too, as `InferenceCache` keeps those that it computes.
        opener: how files are opened.
        wall_clock: seconds since 1970.
        chance: uniform in [0, 1), for the jitter of lifetimes.

    Raises:
        SnapshotError: damaged, of another format, or another model's answers.
    """
    meta = await asyncio.to_thread(verify_snapshot, directory, opener)
    if meta.fingerprint != fingerprint:
        raise SnapshotError(
            f"{directory}: holds answers of {meta.fingerprint}, not of {fingerprint}; load the "
            "snapshot that was pushed with this release"
        )
    stamp = meta.generation if generation is None else generation
    signatures = [spec.signature for spec in meta.signatures]
    fillers: list[_Filler] = [_Filler(tier, cache.policy.snapshot_share) for tier in cache.local]

    def made(item: Any) -> Entry:
        now, signature = wall_clock(), signatures[item.signature]
        end = cache.policy.expires_at(cache.model, signature, now, chance())
        return Entry(
            *(item.key, item.row, item.answer, fingerprint, "answer"),
            *(stamp, now, end, float(item.cost)),
        )

    items = read_entries(directory, opener)
    sharing = _Sharing(meta, transformed)
    count = withdrawn = sent = 0
    while batch := await asyncio.to_thread(_next, items):
        entries = [made(item) for item in batch]
        valid = [entry for entry in entries if cache.state.is_valid(entry)]
        count += len(entries)
        withdrawn += len(entries) - len(valid)
        valid += filter(cache.state.is_valid, sharing.copies(batch, entries))
        for filler in fillers:
            await filler.fill(valid)
        if cache.remote is not None and valid:
            cache.remote.put_later(valid, cache.state.is_valid)
            await cache.remote.drain()
            sent += len(valid)
        await asyncio.sleep(0)
    loaded = {filler.tier.name: filler.count for filler in fillers}
    if cache.remote is not None:
        loaded[cache.remote.name] = sent
    return LoadReport(fingerprint, count, withdrawn, loaded)


class _Filler:
    """Fills a local tier up to a share of its budget, if it has one."""

    def __init__(self, tier: LocalTier, share: float) -> None:
        self.tier = tier
        self.count = 0
        budget = getattr(tier.store, "budget_bytes", None)
        self._room = None if budget is None else share * budget
        # A store that writes later would drop what comes faster than it writes.
        self._flush: Callable[[], None] | None = getattr(tier.store, "flush", None)
        self._put: Callable[[Entry], Any] = getattr(tier.store, "put_warm", tier.store.put)

    async def fill(self, entries: Sequence[Entry]) -> None:
        """Puts entries until the share is full."""
        for entry in entries:
            size = entry.size + _OVERHEAD
            if self._room is not None and self._room < size:
                self._room = 0.0  # what comes later is asked for less often, however small it is
                return
            if self._put(entry):
                self.count += 1
                self._room = None if self._room is None else self._room - size
        if self._flush is not None:
            await asyncio.to_thread(self._flush)


class _Sharing:
    """Copies of answers under their transformed rows, each such row once."""

    def __init__(self, meta: SnapshotMeta, transformed: Transformed | None) -> None:
        self._makers = list(zip(meta.signatures, meta.key_makers(), strict=True))
        self._transformed = transformed
        self._seen: set[bytes] = set()

    def copies(self, items: Sequence[Any], entries: Sequence[Entry]) -> Iterator[Entry]:
        """Yields the copies of a batch that are new."""
        if self._transformed is None:
            return
        for item, entry in zip(items, entries, strict=True):
            spec, maker = self._makers[item.signature]
            row = self._transformed(spec.signature, entry.row)
            shared = None if row is None else transformed_row(maker, row)
            if shared is not None and shared.key not in self._seen:
                self._seen.add(shared.key)
                yield entry._replace(key=shared.key, row=shared.row)


def _next(items: Iterator[Any]) -> list[Any]:
    return list(islice(items, _BATCH))
