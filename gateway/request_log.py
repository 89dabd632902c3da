"""The request log: samples of the traffic, written off the request path.

    wants (event loop) -> offer (event loop) -> queue -> convert and write (a thread)

Nothing that goes wrong here is felt by a request: a full queue, a full disk, a body that nobody can
read cost records, which are counted as dropped.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from random import Random

from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.observer import GatewayObserver
from tfx_encore.gateway.request_log_converter import Converted, Converter
from tfx_encore.gateway.request_log_files import LogFiles
from tfx_encore.gateway.request_log_policy import RequestLogPolicy
from tfx_encore.gateway.request_log_sampling import Sampler
from tfx_encore.gateway.request_record import RequestRecord

__all__ = ["Converted", "Converter", "RequestLogPolicy", "TfRecordRequestLog"]

log = logging.getLogger("tfx_encore.gateway")

_MOST_MODELS = 1000  # clients can make up names
_TICK_SECONDS = 1.0
_TIDY_SECONDS = 3600.0
_QUIET_SECONDS = 60.0


class TfRecordRequestLog:
    """Writes PredictionLogs into TFRecord files (a `request_record.RequestLog`).

    Use it on one event loop, in the process that made it.

    Args:
        policy: what is logged, where, for how long.
        converter: makes messages of requests that came as JSON; without it those are dropped.
        observer: told how many records were queued and dropped.
        knows: True for a model that is served; requests for others are not logged.
        seed: of the choice of requests.
        wall_clock: seconds since 1970.
        steady_clock: seconds, never going back.

    Attributes:
        shift_seconds: added to every time that is logged; not 0 only where the traffic of another
            day is replayed.
    """

    def __init__(
        self,
        policy: RequestLogPolicy,
        *,
        converter: Converter | None = None,
        observer: GatewayObserver | None = None,
        knows: Callable[[str], bool] = lambda _: True,
        seed: int | None = None,
        wall_clock: Callable[[], float] = time.time,
        steady_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shift_seconds = 0.0
        self._policy = policy
        self._observer = observer or GatewayObserver()
        self._knows = knows
        self._random = Random(seed)  # noqa: S311 - chooses a sample, keeps no secret
        self._clock = steady_clock
        self._samplers: dict[str, Sampler] = {}
        self._always_errors = policy.always_errors
        self._queue: queue.SimpleQueue[tuple[RequestRecord, float] | None] = queue.SimpleQueue()
        self._queued_bytes = 0
        self._writer = _Writer(
            policy,
            converter,
            self._queue,
            self._lost,
            wall_clock=lambda: wall_clock() + self.shift_seconds,
            steady_clock=steady_clock,
        )
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Records that wait to be written."""
        return self._queue.qsize()

    def start(self) -> None:
        """Starts the thread that writes; it first sees to what killed processes left behind.

        Without it the first record does. Not before a fork.
        """
        if self._thread is None:
            try:
                self._loop = asyncio.get_running_loop()
            except RuntimeError:
                self._loop = None
            self._thread = threading.Thread(
                target=self._writer.run, name="request-log", daemon=True
            )
            self._thread.start()

    def wants(self, model: str, code: Code) -> bool:
        """True if the next request of this model and outcome is to be logged."""
        sampler = self._samplers.get(model)
        if sampler is None:
            sampler = self._sampler(model)
            if sampler is None:
                return False
        if code and self._always_errors:
            return sampler.errors.take(self._clock())
        sampler.left -= 1
        if sampler.left > 0:
            return False
        return sampler.due(self._clock())

    def offer(self, record: RequestRecord) -> bool:
        """Hands over a record without waiting; False if the queue is full and it was dropped."""
        size = len(record.request) + len(record.response)
        waiting = self._queued_bytes - self._writer.bytes_taken
        if (
            self._is_closed
            or self._queue.qsize() >= self._policy.queue_records
            or waiting + size > self._policy.queue_bytes
        ):
            self._observer.logged(record.model, 0, 1)
            return False
        self.start()
        if self.shift_seconds:
            record = record._replace(received_at=record.received_at + self.shift_seconds)
        self._queued_bytes += size
        self._queue.put((record, self._rate(record)))
        self._observer.logged(record.model, 1, 0)
        return True

    async def close(self, seconds: float = 10.0) -> None:
        """Writes what is queued and closes the files, within a time.

        What is left then is lost; the files are recovered at the next start.
        """
        self._is_closed = True
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join, seconds)

    def _sampler(self, model: str) -> Sampler | None:
        if len(self._samplers) >= _MOST_MODELS or not self._knows(model):
            return None
        policy = self._policy
        made = Sampler(policy.rate_of(model), policy.max_per_minute, self._random, self._clock())
        self._samplers[model] = made
        return made

    def _rate(self, record: RequestRecord) -> float:
        """At which such requests are logged."""
        if record.code and self._always_errors:
            return 1.0
        return self._policy.rate_of(record.model)

    def _lost(self, model: str) -> None:
        """A record could not be written; told by the thread, counted on the event loop."""
        loop = self._loop
        if loop is None or loop.is_closed():
            self._observer.logged(model, 0, 1)
            return
        loop.call_soon_threadsafe(self._observer.logged, model, 0, 1)


class _Writer:
    """What the thread does.

    Args:
        policy: see there.
        converter: see there.
        records: record and rate; None for the end.
        lost: told the model of a record that was not written.
        wall_clock: seconds since 1970.
        steady_clock: seconds, never going back.

    Attributes:
        bytes_taken: bytes of bodies that were taken from the queue, ever.
    """

    def __init__(
        self,
        policy: RequestLogPolicy,
        converter: Converter | None,
        records: queue.SimpleQueue[tuple[RequestRecord, float] | None],
        lost: Callable[[str], None],
        *,
        wall_clock: Callable[[], float],
        steady_clock: Callable[[], float],
    ) -> None:
        self._files = LogFiles(policy)
        self._converter = converter
        self._records = records
        self._lost = lost
        self._wall_clock = wall_clock
        self._steady_clock = steady_clock
        self._tidied_at = -_TIDY_SECONDS
        self._complained_at = -_QUIET_SECONDS
        self.bytes_taken = 0

    def run(self) -> None:
        """Writes until it is told to end."""
        self._tidy()
        while True:
            try:
                item = self._records.get(timeout=_TICK_SECONDS)
            except queue.Empty:
                self._tidy()
                continue
            if item is None:
                break
            self._write(*item)
            if not self._records.qsize():
                self._tidy()
        self._files.close()

    def _write(self, record: RequestRecord, rate: float) -> None:
        from tfx_encore.gateway.request_log_records import prediction_log

        self.bytes_taken += len(record.request) + len(record.response)
        try:
            data = prediction_log(record, rate, self._converter)
            if data is None:
                self._lose(record.model, "it cannot be converted")
                return
            now = self._wall_clock()
            self._files.append(record.model, record.received_at, data, now)
            self._files.rotate(now)
        except Exception as error:  # noqa: BLE001 - the log goes on, whatever one record does to it
            self._lose(record.model, f"{type(error).__name__}: {error}")

    def _lose(self, model: str, reason: str) -> None:
        self._lost(model)
        now = self._steady_clock()
        if now - self._complained_at >= _QUIET_SECONDS:
            self._complained_at = now
            log.warning("request not logged model=%s reason=%r", model, reason)

    def _tidy(self) -> None:
        try:
            self._files.rotate(self._wall_clock())
            now = self._steady_clock()
            if now - self._tidied_at >= _TIDY_SECONDS:
                self._tidied_at = now
                self._files.recover()
                self._files.remove_old(self._wall_clock())
        except OSError as error:
            log.warning("request log not tidied reason=%r", str(error))
