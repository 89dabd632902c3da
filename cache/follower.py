"""Follows a model's ledger: applies its records, erases, acknowledges, and knows its own age.

The ledger is whatever keeps `LedgerPort`; `metadata.ledger.Ledger` does. It is read in a thread,
because it may be slow; everything else happens on the event loop, where the cache lives.

A record is withdrawn from the cache the moment it is read. It is acknowledged once its work is
done: for an erasure that is when every tier has given up the bytes. Records are acknowledged in
order, so that the highest acknowledged sequence says everything before it is done.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from tfx_encore.cache.invalidation import InvalidationState, needs_erasure
from tfx_encore.schemas.errors import LedgerError
from tfx_encore.schemas.records import Acknowledgement, InvalidationRecord
from tfx_encore.schemas.serial import to_json

PAGE = 500


class LedgerPort(Protocol):
    """What a follower needs of a ledger; see `metadata.ledger.Ledger` for the contract."""

    def records(
        self, model: str, *, after: int = 0, limit: int | None = None
    ) -> tuple[InvalidationRecord, ...]:
        """Returns the records with a sequence above `after`, ascending, at most `limit`."""
        ...

    def acknowledge(self, record: InvalidationRecord, consumer: str) -> Acknowledgement:
        """Notes that a consumer has applied a record."""
        ...

    def acknowledgements(
        self, model: str, *, sequence: int | None = None
    ) -> tuple[Acknowledgement, ...]:
        """Returns who applied what."""
        ...


class Checkpoint(Protocol):
    """Remembers a line of text with the stores that survive a restart."""

    def load(self) -> str | None:
        """Returns the line; None if there is none or it cannot be read."""
        ...

    def save(self, line: str) -> None:
        """Keeps the line instead of the one before."""
        ...


class Follower:
    """Keeps an `InvalidationState` as the ledger has it.

    Args:
        ledger: where the records are.
        state: of the model that is followed; nobody else applies records to it.
        consumer: who acknowledges, as `gateway@host-1`; the same again after a restart, for it
            stands for the stores.
        erase: removes the bytes of what a record covers from every tier; raises
            StoreUnavailableError if it could not (`InferenceCache.erase`).
        forget: removes everything from every tier (`InferenceCache.forget`); called when the
            ledger is not the one that was followed before, so that generations mean nothing.
        checkpoint: with it that is noticed across a restart too.
        poll_seconds: pause between two looks.
        clock: seconds, never going back; the state's.
    """

    def __init__(
        self,
        ledger: LedgerPort,
        state: InvalidationState,
        consumer: str,
        *,
        erase: Callable[[InvalidationRecord], Awaitable[None]],
        forget: Callable[[], Awaitable[None]],
        checkpoint: Checkpoint | None = None,
        poll_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._state = state
        self._consumer = consumer
        self._erase = erase
        self._forget = forget
        self._checkpoint = checkpoint
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._last: InvalidationRecord | None = None
        self._acknowledged: int | None = None
        self._unfinished: deque[InvalidationRecord] = deque()
        self._has_compared = checkpoint is None
        self._woken = asyncio.Event()
        self.failures = 0
        self.last_error: Exception | None = None

    @property
    def state(self) -> InvalidationState:
        """What has been withdrawn."""
        return self._state

    @property
    def unfinished(self) -> int:
        """Records applied but not yet acknowledged."""
        return len(self._unfinished)

    def seconds_since_last_read(self) -> float | None:
        """Age of what is known; None if the ledger has not been read to its end."""
        return self._state.seconds_since_last_read()

    def wake(self) -> None:
        """Looks at the ledger now instead of at the end of the pause."""
        self._woken.set()

    async def run(self) -> None:
        """Follows until cancelled; a ledger that fails is asked again after the pause."""
        while True:
            self._woken.clear()
            await self.poll()
            try:
                await asyncio.wait_for(self._woken.wait(), self._poll_seconds)
            except asyncio.TimeoutError:
                continue

    async def poll(self) -> bool:
        """Reads the ledger to its end once; True if that worked and left nothing unfinished.

        What was known stays as it was if not, and grows old.
        """
        worked = [await self._try(self._read), await self._try(self._finish)]
        if all(worked):
            self.last_error = None
        return all(worked)

    async def _try(self, step: Callable[[], Awaitable[None]]) -> bool:
        try:
            await step()
        except Exception as error:  # noqa: BLE001 - following must go on whatever a ledger raises
            self.failures += 1
            self.last_error = error
            return False
        return True

    async def _read(self) -> None:
        while True:
            begun = self._clock()
            # The last record is read again: if it is not the same, neither is the ledger.
            after = self._state.applied
            found = await asyncio.to_thread(
                self._ledger.records, self._state.model, after=max(after - 1, 0), limit=PAGE
            )
            new = self._continued(found, after)
            if new is None:
                await self._begin_again()
                continue
            for record in new:
                self._take(record)
            if len(found) < PAGE or self._state.applied == after:
                break
        if new and self._state.applied != new[-1].sequence:
            raise LedgerError(
                f"model {self._state.model!r}: record {self._state.applied + 1} is missing "
                f"although record {new[-1].sequence} is there; answers grow old until it comes"
            )
        await self._compare()
        self._state.confirm(begun)

    def _continued(
        self, found: Sequence[InvalidationRecord], after: int
    ) -> Sequence[InvalidationRecord] | None:
        """The records after `after`; None if the ledger no longer holds the one at `after`."""
        if after == 0:
            return found
        if not found or found[0] != self._last:
            return None
        return found[1:]

    def _take(self, record: InvalidationRecord) -> None:
        if record.sequence != self._state.applied + 1:
            self._state.withdraw_ahead(record)
            return
        self._state.apply(record)
        self._last = record
        self._unfinished.append(record)

    async def _begin_again(self) -> None:
        """The ledger was replaced: nothing that is kept can be judged by it."""
        self._state.reset()
        self._last = None
        self._acknowledged = None
        self._unfinished.clear()
        await self._forget()

    async def _compare(self) -> None:
        """Once after a start: whether the stores were filled under this ledger."""
        if self._has_compared or self._checkpoint is None:
            return
        line = await asyncio.to_thread(self._checkpoint.load)
        if line is not None and not await self._holds(line):
            await self._forget()
        self._has_compared = True

    async def _holds(self, line: str) -> bool:
        """True if the ledger still holds the record that a line names, or none is named."""
        sequence, _, digest = line.partition(" ")
        if not sequence.isdigit():
            return False
        if int(sequence) == 0:
            return True
        held = await asyncio.to_thread(
            self._ledger.records, self._state.model, after=int(sequence) - 1, limit=1
        )
        return bool(held) and _line(held[0]) == f"{sequence} {digest}"

    async def _finish(self) -> None:
        """Erases and acknowledges what was applied, in order."""
        if not self._unfinished:
            return
        if self._acknowledged is None:
            self._acknowledged = await self._already_acknowledged()
        while self._unfinished:
            record = self._unfinished[0]
            if record.sequence > self._acknowledged:
                if needs_erasure(record):
                    await self._erase(record)
                await asyncio.to_thread(self._ledger.acknowledge, record, self._consumer)
                self._acknowledged = record.sequence
            self._unfinished.popleft()
        if self._checkpoint is not None and self._last is not None:
            await asyncio.to_thread(self._checkpoint.save, _line(self._last))

    async def _already_acknowledged(self) -> int:
        acks = await asyncio.to_thread(self._ledger.acknowledgements, self._state.model)
        return max((ack.sequence for ack in acks if ack.consumer == self._consumer), default=0)


def _line(record: InvalidationRecord) -> str:
    digest = hashlib.blake2b(to_json(record).encode(), digest_size=16).hexdigest()
    return f"{record.sequence} {digest}"
