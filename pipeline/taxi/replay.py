"""Sends simulated days to a real gateway over HTTP, and writes what it logged and the labels."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import csv
import functools
import http.client
import json
import pathlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timezone
from threading import Thread
from typing import Any

from tfx_encore.gateway.server import GatewayServer
from tfx_encore.gateway.settings import GatewaySettings
from tfx_encore.pipeline.taxi.traffic import Ask, Trip, day_of
from tfx_encore.schemas.errors import DataError

_CLIENTS = 4
_NOTHING_OF_THE_DAY = 600.0  # seconds after midnight at which its first request comes
_LOGGED_WITHIN = 120.0  # seconds
_FLOATS = ("fare", "trip_miles", "pickup_latitude", "pickup_longitude")
_INTEGERS = ("trip_start_hour", "trip_start_day", "trip_start_month")
_TEXTS = ("payment_type", "company")


class Replay:
    """A gateway in this process, on the loopback, whose log bears the dates of the replayed days.

    Args:
        releases: root of the release directory that it serves.
        model: the model that is asked.
        request_log: folder of its request log.
        labels: folder of the labels, one CSV for each day.
    """

    def __init__(
        self, releases: pathlib.Path, model: str, request_log: pathlib.Path, labels: pathlib.Path
    ) -> None:
        self._model = model
        self._labels = labels
        self._settings = GatewaySettings(
            releases=str(releases),
            host="127.0.0.1",
            port=None,
            rest_api_port=0,
            request_log_dir=str(request_log),
            request_log_rate=1.0,
            request_log_max_per_minute=0,
            request_log_keep_days=0,
            consumer="replay",
        )
        self._server: Any = None

    @contextlib.contextmanager
    def serving(self) -> Iterator[Replay]:
        """Serves until the end of the block; then everything logged is on disk."""
        loop = asyncio.new_event_loop()
        thread = Thread(target=loop.run_forever, name="gateway", daemon=True)
        thread.start()
        run = functools.partial(asyncio.run_coroutine_threadsafe, loop=loop)
        try:
            self._server = run(_started(self._settings)).result()
            yield self
        finally:
            if self._server is not None:
                run(self._server.stop(5.0)).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10.0)

    def play(self, number: int, asks: Sequence[Ask]) -> None:
        """Sends a day, and writes what turned out.

        Args:
            number: the day, counted from 1.
            asks: its requests.

        Raises:
            DataError: the gateway refuses a request.
        """
        day = datetime.fromisoformat(day_of(number)).replace(tzinfo=timezone.utc)
        first = day.timestamp() + _NOTHING_OF_THE_DAY
        self._server.request_log.shift_seconds = first - time.time()
        parts = [asks[at::_CLIENTS] for at in range(_CLIENTS)]
        with ThreadPoolExecutor(_CLIENTS) as clients:
            list(clients.map(self._send, parts))
        self._until_logged()
        write_labels(self._labels / f"{day_of(number)}.csv", asks)

    def _until_logged(self) -> None:
        """Waits for the log: what is written late would be of a day that is over."""
        deadline = time.monotonic() + _LOGGED_WITHIN
        while self._server.request_log.waiting:
            if time.monotonic() > deadline:
                raise DataError(
                    f"the request log still has {self._server.request_log.waiting:,} records to "
                    f"write after {_LOGGED_WITHIN:g} s; is the disk full?"
                )
            time.sleep(0.01)

    def _send(self, asks: Sequence[Ask]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.rest_port, timeout=60)
        path = f"/v1/models/{self._model}:predict"
        with contextlib.closing(connection):
            for ask in asks:
                connection.request("POST", path, body_of(ask), {"x-request-id": ask.request_id})
                response = connection.getresponse()
                said = response.read()
                if response.status != 200:
                    raise DataError(
                        f"the gateway answered request {ask.request_id} with {response.status}: "
                        f"{said[:200].decode(errors='replace')}"
                    )


async def _started(settings: GatewaySettings) -> GatewayServer:
    server = GatewayServer(settings)
    await server.start()
    return server


def body_of(ask: Ask) -> bytes:
    """The JSON of a request: one serialized tf.Example for each row."""
    rows = [{"examples": {"b64": base64.b64encode(e).decode()}} for e in map(example, ask.trips)]
    return json.dumps({"instances": rows}).encode()


def example(trip: Trip) -> bytes:
    """A trip as a serialized tf.Example: what the model reads, and what slices are cut by."""
    return _example(tuple(sorted(trip.items())))


@functools.lru_cache(maxsize=10_000)
def _example(items: tuple[tuple[str, str], ...]) -> bytes:
    import tensorflow as tf

    trip = dict(items)
    made = tf.train.Example()
    for name in _FLOATS:
        if trip[name]:
            made.features.feature[name].float_list.value.append(float(trip[name]))
    for name in _INTEGERS:
        if trip[name]:
            made.features.feature[name].int64_list.value.append(int(trip[name]))
    for name in _TEXTS:
        if trip[name]:
            made.features.feature[name].bytes_list.value.append(trip[name].encode())
    return bytes(made.SerializeToString(deterministic=True))


def write_labels(file: pathlib.Path, asks: Sequence[Ask]) -> None:
    """Writes the labels of a day: request_id, row, label."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["request_id", "row", "label"])
        for ask in asks:
            writer.writerows([ask.request_id, row, y] for row, y in enumerate(ask.labels))
    partial.replace(file)


def read_trips(source: pathlib.Path, year: int) -> list[Trip]:
    """The trips of a year, in order of the file."""
    with source.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [row for row in rows if _year(row) == year]


def _year(trip: Trip) -> int:
    moment = datetime.fromtimestamp(int(trip["trip_start_timestamp"]), timezone.utc)
    return date(moment.year, moment.month, moment.day).year
