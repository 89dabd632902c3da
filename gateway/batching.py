"""Merges calls of a model into batches, or keeps them apart. asyncio.

A call that finds a free slot and need not wait runs as it came; its way costs a few microseconds
over `model.run`. Calls that come while every slot is taken wait in `batching_queue`, and what has
gathered by the time a slot is free goes as one call of the model: the busier the model, the larger
its batches.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from time import perf_counter

from tfx_encore.gateway.batching_parameters import BatchingParameters
from tfx_encore.gateway.batching_queue import Batch, BatchQueue, Call, Key, Part
from tfx_encore.gateway.batching_tensors import (
    append,
    check_outputs,
    count_rows,
    join,
    layout,
    rows_of,
)
from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.model_port import LoadedModel
from tfx_encore.gateway.observer import GatewayObserver
from tfx_encore.gateway.signature import Array, Tensors


class Batcher:
    """Runs calls of the same signature and outputs together (a `batching_port.Runner`).

    Inputs and outputs have a row for each row of the batch in their first dimension; calls whose
    dtypes or other dimensions differ are not merged.

    Args:
        model: computes batches.
        parameters: sizes, waiting time, bounds.
        observer: told of each batch and of the rows that wait.
    """

    def __init__(
        self,
        model: LoadedModel,
        parameters: BatchingParameters,
        observer: GatewayObserver | None = None,
    ) -> None:
        self._model = model
        self._parameters = parameters
        self._observer = observer or GatewayObserver()
        self._queue = BatchQueue(parameters)
        self._slots = parameters.num_batch_threads
        self._largest = parameters.largest_batch
        self._timeout = parameters.batch_timeout_micros * 1e-6
        self._by_rank = parameters.pad_variable_length_inputs
        self._busy = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._idle: asyncio.Event | None = None

    async def run(
        self, signature: str, inputs: Tensors, outputs: Sequence[str]
    ) -> dict[str, Array]:
        """Returns the outputs for these inputs, computed alone or among others.

        Raises:
            ServingError: the model refuses these inputs, or cannot answer; INVALID_ARGUMENT, the
                inputs are no batch, or too large a one; UNAVAILABLE, too many batches wait, or the
                model is being unloaded; FAILED_PRECONDITION, an output has not a row for each row.
        """
        rows = count_rows(inputs)
        if self._is_closed:
            raise ServingError(Code.UNAVAILABLE, f"model {self._model.name} is being unloaded")
        if (
            self._busy < self._slots
            and not self._queue
            and rows <= self._largest
            and (not self._timeout or rows == self._largest)
        ):
            self._busy += 1
            try:
                return await self._compute(signature, inputs, outputs, rows)
            finally:
                self._free()
        return await self._wait(signature, inputs, outputs, rows)

    async def close(self) -> None:
        """Finishes what is under way and what waits; further calls are refused."""
        self._is_closed = True
        self._queue.close()
        self._idle = asyncio.Event()
        self._dispatch()
        if self._busy or self._queue:
            await self._idle.wait()

    # --- one call of the model -------------------------------------------------------------------

    async def _compute(
        self, signature: str, inputs: Tensors, outputs: Sequence[str], rows: int
    ) -> dict[str, Array]:
        padding = self._padding(rows)
        if padding:
            inputs = join([inputs], padding, to_largest=False)
        begun = perf_counter()
        results = await self._model.run(signature, inputs, outputs)
        seconds = perf_counter() - begun
        self._observer.batch(
            self._model.name, signature, rows=rows, padded=padding, seconds=seconds
        )
        check_outputs(results, rows + padding)
        return rows_of(results, 0, rows) if padding else results

    def _padding(self, rows: int) -> int:
        """Rows that are missing to the next allowed size."""
        sizes = self._parameters.allowed_batch_sizes
        if not sizes or not rows:
            return 0
        place = bisect_left(sizes, rows)
        return sizes[place] - rows if place < len(sizes) else 0

    def _free(self) -> None:
        """A slot is free: the next batch may run."""
        self._busy -= 1
        if self._queue:
            self._dispatch()
        if self._idle is not None and not self._busy and not self._queue:
            self._idle.set()

    # --- calls that wait -------------------------------------------------------------------------

    async def _wait(
        self, signature: str, inputs: Tensors, outputs: Sequence[str], rows: int
    ) -> dict[str, Array]:
        loop = asyncio.get_running_loop()
        call = Call(inputs, rows, loop.create_future())
        key = Key(signature, tuple(outputs), layout(inputs, by_rank=self._by_rank))
        opened = self._queue.add(call, key)
        if self._timeout:
            for batch in opened:
                batch.timer = loop.call_later(self._timeout, self._become_due, batch)
        self._observer.queued(self._model.name, self._queue.rows)
        self._dispatch()
        try:
            return await call.future
        finally:
            if call.future.cancelled():
                self._drop(call)

    def _become_due(self, batch: Batch) -> None:
        batch.is_due = True
        self._dispatch()

    def _drop(self, call: Call) -> None:
        """What still waits of a call is not computed."""
        self._queue.drop(call)
        self._observer.queued(self._model.name, self._queue.rows)
        if self._idle is not None and not self._busy and not self._queue:
            self._idle.set()

    def _dispatch(self) -> None:
        """Runs batches in the slots that are free."""
        while self._busy < self._slots:
            batch = self._queue.take()
            if batch is None:
                return
            self._observer.queued(self._model.name, self._queue.rows)
            self._busy += 1
            task = asyncio.get_running_loop().create_task(self._run_batch(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run_batch(self, batch: Batch) -> None:
        try:
            await self._answer(batch.key, batch.parts)
        finally:
            self._free()

    async def _answer(self, key: Key, parts: Sequence[Part]) -> None:
        """Computes parts together and gives each caller its rows, or its error."""
        parts = [part for part in parts if not part.call.future.done()]
        if not parts:
            return
        try:
            results = await self._merge(key, parts)
        except asyncio.CancelledError:
            for part in parts:
                part.call.future.cancel()
            raise
        except ServingError as error:
            if error.code != Code.INVALID_ARGUMENT or len(parts) == 1:
                self._fail(parts, error)
                return
            # One of them is wrong, and nobody is to get another's error.
            for part in parts:
                await self._answer(key, [part])
        except Exception as error:  # noqa: BLE001 - it is raised where the results are waited for
            self._fail(parts, error)
        else:
            _hand_out(parts, results)

    async def _merge(self, key: Key, parts: Sequence[Part]) -> dict[str, Array]:
        rows = sum(part.rows for part in parts)
        inputs = join([part.inputs for part in parts], 0, to_largest=self._by_rank)
        return await self._compute(key.signature, inputs, key.outputs, rows)

    def _fail(self, parts: Sequence[Part], error: Exception) -> None:
        for part in parts:
            if part.call.future.done():
                continue
            # Raising one exception in several callers would grow its traceback.
            own = error
            if isinstance(error, ServingError):
                own = ServingError(error.code, error.message)
            part.call.future.set_exception(own)
            if len(part.call.parts) > 1:
                self._drop(part.call)


class Alone:
    """Runs each call by itself, as it is (a `batching_port.Runner`).

    Args:
        model: computes calls.
        parameters: `num_batch_threads` calls run at a time, `max_enqueued_batches` wait at most;
            nothing else is read.
        observer: told of each call.
    """

    def __init__(
        self,
        model: LoadedModel,
        parameters: BatchingParameters,
        observer: GatewayObserver | None = None,
    ) -> None:
        self._model = model
        self._observer = observer or GatewayObserver()
        self._free = parameters.num_batch_threads
        self._most = parameters.most_waiting
        self._turns: deque[asyncio.Future[None]] = deque()

    async def run(
        self, signature: str, inputs: Tensors, outputs: Sequence[str]
    ) -> dict[str, Array]:
        """As `model_port.LoadedModel.run`, when it is this call's turn.

        Raises:
            ServingError: as the model does; UNAVAILABLE, too many calls wait.
        """
        if self._free:
            self._free -= 1
        else:
            await self._turn()
        try:
            begun = perf_counter()
            results = await self._model.run(signature, inputs, outputs)
            self._observer.batch(
                self._model.name,
                signature,
                rows=_leading(inputs),
                padded=0,
                seconds=perf_counter() - begun,
            )
            return results
        finally:
            self._pass_on()

    async def _turn(self) -> None:
        if len(self._turns) >= self._most:
            raise ServingError(
                Code.UNAVAILABLE,
                f"model {self._model.name} is busy: {len(self._turns)} requests wait and at most "
                f"{self._most} may",
            )
        turn = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._turns.remove(turn)
            else:
                self._pass_on()  # it was our turn already
            raise

    def _pass_on(self) -> None:
        for turn in self._turns:
            if not turn.done():
                self._turns.remove(turn)
                turn.set_result(None)
                return
        self._free += 1


def _hand_out(parts: Sequence[Part], results: dict[str, Array]) -> None:
    at = 0
    for part in parts:
        stop = at + part.rows
        future = part.call.future
        if not future.done():
            own = results if len(parts) == 1 else rows_of(results, at, stop)
            if len(part.call.parts) == 1:
                future.set_result(own)
            else:
                _settle_part(part, own)
        at = stop


def _settle_part(part: Part, result: dict[str, Array]) -> None:
    call = part.call
    call.pieces[part.start] = result
    if len(call.pieces) < len(call.parts):
        return
    try:
        call.future.set_result(append([call.pieces[each.start] for each in call.parts]))
    except ValueError as error:
        call.future.set_exception(
            ServingError(Code.INTERNAL, f"Tensor concat operation failed: {error}")
        )


def _leading(inputs: Tensors) -> int:
    """Rows of a call, if its first input has rows."""
    for array in inputs.values():
        return array.shape[0] if array.ndim else 1
    return 1
