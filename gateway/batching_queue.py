"""Calls that wait, already put into the batches in which they will run. asyncio.

A batch is open while further calls of its layout may join it. As in TensorFlow Serving's
SharedBatchScheduler (tensorflow/core/kernels/batching_util/shared_batch_scheduler.h), a call that
does not fit into the open batch begins another one, and a batch may run once it is full, or closed,
or has waited long enough. Other than there, calls whose tensors cannot be joined are never in one
batch, and batches run in the order in which they were opened, whatever their signature.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from tfx_encore.gateway.batching_parameters import BatchingParameters
from tfx_encore.gateway.errors import Code, ServingError, invalid
from tfx_encore.gateway.signature import Array, Tensors


class Key(NamedTuple):
    """What calls of one batch have in common.

    Attributes:
        signature: its name.
        outputs: those wanted.
        layout: dtypes and shapes of the inputs (`batching_tensors.layout`).
    """

    signature: str
    outputs: tuple[str, ...]
    layout: Any


class Call:
    """One caller's inputs, and where the result is waited for.

    Attributes:
        inputs: every input of the signature.
        rows: their number of rows.
        future: of the result.
        parts: the call, or what it was cut into.
        pieces: results of the parts of a call that was cut, by their first row.
    """

    __slots__ = ("future", "inputs", "parts", "pieces", "rows")

    def __init__(
        self, inputs: Tensors, rows: int, future: asyncio.Future[dict[str, Array]]
    ) -> None:
        self.inputs = inputs
        self.rows = rows
        self.future = future
        self.parts: list[Part] = []
        self.pieces: dict[int, dict[str, Array]] = {}


class Part:
    """Rows of one call that run in one batch.

    Attributes:
        call: whose.
        start: first row.
        stop: row after the last.
        batch: in which it waits; None once that was taken.
    """

    __slots__ = ("batch", "call", "start", "stop")

    def __init__(self, call: Call, start: int, stop: int) -> None:
        self.call = call
        self.start = start
        self.stop = stop
        self.batch: Batch | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def inputs(self) -> Tensors:
        """The rows of each input."""
        inputs = self.call.inputs
        if self.rows == self.call.rows:
            return inputs
        return {name: array[self.start : self.stop] for name, array in inputs.items()}


class Batch:
    """Parts that run together.

    Attributes:
        key: what they have in common.
        parts: in their order.
        rows: of all of them.
        is_due: True if it need not be full to run.
        timer: makes it due; None if nothing has to.
    """

    __slots__ = ("is_due", "key", "parts", "rows", "timer")

    def __init__(self, key: Key, *, is_due: bool) -> None:
        self.key = key
        self.parts: list[Part] = []
        self.rows = 0
        self.is_due = is_due
        self.timer: asyncio.TimerHandle | None = None


class BatchQueue:
    """Batches that wait, oldest first.

    Args:
        parameters: sizes and bounds.

    Attributes:
        rows: that wait.
    """

    def __init__(self, parameters: BatchingParameters) -> None:
        self._parameters = parameters
        self._largest = parameters.largest_batch
        self._batches: deque[Batch] = deque()
        self._open: dict[Key, Batch] = {}
        self._waiting: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self._is_closing = False
        self.rows = 0

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def add(self, call: Call, key: Key) -> list[Batch]:
        """Puts a call into batches; returns those that it opened.

        Raises:
            ServingError: INVALID_ARGUMENT, it is larger than any request may be; UNAVAILABLE, too
                many batches wait.
        """
        sizes = self._sizes(call.rows, key)
        opened, start = [], 0
        for size in sizes:
            part = Part(call, start, start + size)
            start += size
            batch = self._open.get(key)
            if batch is None or batch.rows + size > self._largest:
                batch = self._begin(key)
                opened.append(batch)
            part.batch = batch
            batch.parts.append(part)
            batch.rows += size
            call.parts.append(part)
        self.rows += call.rows
        return opened

    def take(self) -> Batch | None:
        """Removes and returns the oldest batch that may run; None if there is none."""
        for place, batch in enumerate(self._batches):
            if (
                batch.is_due
                or self._is_closing
                or batch.rows >= self._largest
                or self._open.get(batch.key) is not batch
            ):
                del self._batches[place]
                self._leave(batch)
                for part in batch.parts:
                    part.batch = None
                self.rows -= batch.rows
                return batch
        return None

    def drop(self, call: Call) -> None:
        """Removes what still waits of a call: nobody wants it any more."""
        for part in call.parts:
            batch, part.batch = part.batch, None
            if batch is None:
                continue
            batch.parts.remove(part)
            batch.rows -= part.rows
            self.rows -= part.rows
            if not batch.parts:
                self._batches.remove(batch)
                self._leave(batch)

    def close(self) -> None:
        """From now on no batch waits to be full."""
        self._is_closing = True

    def _begin(self, key: Key) -> Batch:
        batch = Batch(key, is_due=not self._parameters.batch_timeout_micros)
        self._batches.append(batch)
        self._open[key] = batch
        self._waiting[key[:2]] += 1
        return batch

    def _leave(self, batch: Batch) -> None:
        if self._open.get(batch.key) is batch:
            del self._open[batch.key]
        self._waiting[batch.key[:2]] -= 1
        if not self._waiting[batch.key[:2]]:
            del self._waiting[batch.key[:2]]
        if batch.timer is not None:
            batch.timer.cancel()

    def _sizes(self, rows: int, key: Key) -> Sequence[int]:
        """Returns the sizes of the parts of a call, if there is room for it.

        Raises:
            ServingError: there is none.
        """
        parameters = self._parameters
        if rows > parameters.max_batch_size:
            raise invalid(
                f"Task size {rows} is larger than maximum input batch size "
                f"{parameters.max_batch_size}"
            )
        is_open = self._open.get(key)
        taken = is_open.rows if is_open else 0
        waiting = self._waiting[key[:2]]
        if parameters.enable_large_batch_splitting:
            # The open batch counts, even if nothing is in it yet.
            self._check_capacity(rows, waiting if is_open else waiting + 1, taken)
            return _cut(rows, self._largest - taken, self._largest)
        fits = is_open is not None and taken + rows <= self._largest
        if not fits and waiting >= parameters.most_waiting:
            raise ServingError(
                Code.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{waiting} batches enqueued and max_enqueued_batches is {parameters.most_waiting}",
            )
        return (rows,)

    def _check_capacity(self, rows: int, batches: int, taken: int) -> None:
        most = self._parameters.most_waiting
        capacity = (most - batches) * self._largest + self._largest - taken
        if rows > capacity:
            raise ServingError(
                Code.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; task size "
                f"is {rows} but scheduling capacity is only {capacity} "
                f"(num_enqueued_batches={batches}, max_enqueued_batches={most}, "
                f"open_batch_size={taken}, max_execution_batch_size={self._largest})",
            )


def _cut(rows: int, room: int, largest: int) -> Sequence[int]:
    """Returns sizes: what fits into the open batch, then full batches, then the rest."""
    if rows <= room:
        return (rows,)
    sizes = [room] if room else []
    whole, rest = divmod(rows - room, largest)
    return [*sizes, *[largest] * whole, *([rest] if rest else [])]
