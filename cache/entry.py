"""An entry of the cache, and the two ports behind which entries are kept. No IO here.

Every store keeps the same contract, which `tests/cache/stores` checks against each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable


class Entry(NamedTuple):
    """One cached answer, or one remembered rejection.

    Attributes:
        key: the row key, 32 bytes (see `cache.keys`).
        row: the row's canonical bytes, compared in full on a hit; empty if the key alone decides.
        answer: the answer's bytes (see `cache.answers`); for a rejection, the error as JSON.
        fingerprint: of the model that answered.
        kind: `answer`, or `rejection`: the model refuses this input.
        generation: sequence of the newest invalidation record applied when it was computed; a
            record with a higher sequence whose selector covers the entry withdraws it.
        computed_at: seconds since 1970, UTC.
        expires_at: seconds since 1970, UTC; 0.0 for never.
        cost_us: what computing it cost, in microseconds.
    """

    key: bytes
    row: bytes
    answer: bytes
    fingerprint: str
    kind: Literal["answer", "rejection"]
    generation: int
    computed_at: float
    expires_at: float
    cost_us: float

    @property
    def size(self) -> int:
        """Bytes of key, row and answer, without any store's overhead."""
        return len(self.key) + len(self.row) + len(self.answer)


@runtime_checkable
class LocalStore(Protocol):
    """A store in this process or on this host: answers in microseconds, on the event loop.

    A store never raises for damaged content: it drops the entry and returns None.
    """

    name: str

    def get(self, key: bytes) -> Entry | None:
        """Returns the entry under `key`, or None. Expiry and validity are the caller's to judge."""
        ...

    def put(self, entry: Entry) -> bool:
        """Keeps an entry, replacing one of the same key; False if it is too large to keep."""
        ...

    def remove(self, keys: Sequence[bytes]) -> int:
        """Removes entries; returns how many were there."""
        ...

    def clear(self, fingerprint: str | None = None) -> int:
        """Removes all entries, or those of one fingerprint; returns how many."""
        ...

    def __len__(self) -> int:
        """Number of entries."""
        ...

    @property
    def bytes_used(self) -> int:
        """Bytes that the store takes, its overhead included, as well as it can tell."""
        ...

    def close(self) -> None:
        """Lets go of files and memory; using the store afterwards is an error."""
        ...


class SharedEntries(Protocol):
    """The reading and writing of a `RemoteStore`."""

    async def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Returns the entries under `keys`, in their order; None where there is none."""
        ...

    async def put_many(self, entries: Sequence[Entry]) -> int:
        """Keeps entries; returns how many."""
        ...


@runtime_checkable
class RemoteStore(Protocol):
    """A store behind a network, shared by processes and hosts. Many keys in one round trip.

    Raises StoreUnavailableError when it cannot be reached; the caller counts a miss. One that
    never takes longer than it says may have `read_seconds` and `write_seconds`; the caller bounds
    the others itself.
    """

    name: str

    async def get_many(self, keys: Sequence[bytes]) -> list[Entry | None]:
        """Returns the entries under `keys`, in their order; None where there is none."""
        ...

    async def put_many(self, entries: Sequence[Entry]) -> int:
        """Keeps entries; returns how many (one that is too large is not kept)."""
        ...

    async def remove(self, keys: Sequence[bytes]) -> int:
        """Removes entries; returns how many were there."""
        ...

    async def clear(self, fingerprint: str | None = None) -> int:
        """Removes all entries, or those of one fingerprint; returns how many."""
        ...

    async def close(self) -> None:
        """Closes its connections."""
        ...
