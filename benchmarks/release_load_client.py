"""The client of the release-under-load benchmark: REST requests at a constant rate, open loop.

Request k is due at k / rate seconds whatever became of those before it. There are no more than
`CONNECTIONS` under way; one that is due while all are busy waits, and its latency is counted from
when it was due.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from release_load_steps import FEATURES, NAME, make_rows

CONNECTIONS = 32
EXPONENT = 0.9
SEED = 11
_LAST_SECONDS = 15.0  # for the answers that are under way at the end
_TOLERANCE = 1e-4  # of a score; the two models' scores are 10 apart


@dataclass(frozen=True)
class Traffic:
    """What is asked, and how often.

    Attributes:
        rows: distinct rows.
        rate: requests a second.
        seconds: after which the client ends by itself.
    """

    rows: int
    rate: int
    seconds: float

    def choose(self) -> np.ndarray[Any, Any]:
        """Returns the row of each request in order; the same each time."""
        weights = np.arange(1, self.rows + 1) ** -EXPONENT
        ranks = np.random.default_rng(SEED).choice(
            self.rows, size=int(self.rate * self.seconds), p=weights / weights.sum()
        )
        return ranks.astype(np.int32)


@dataclass(frozen=True)
class Controls:
    """What the client shares with whoever started it.

    Attributes:
        begun: when request 0 was due, of `time.monotonic`; 0 before.
        highest: the highest version that has answered.
        switched: when that version first answered, of `time.monotonic`.
        stop: set to 1 to end.
    """

    begun: Synchronized
    highest: Synchronized
    switched: Synchronized
    stop: Synchronized


def run(port: int, traffic: Traffic, controls: Controls, scores: Path, output: Path) -> None:
    """Runs the client; writes what became of each request to an `.npz` file.

    Arrays by request: `row`, `sent` and `done` (seconds since the begin; done is NaN without an
    answer), `status` (HTTP), `version`, `hit`, `stale` (of a lower version than one that had
    answered before it was sent), `wrong` (not the score that this version gives for the row).
    """
    client = _Client(traffic, controls, scores)
    gc.freeze()
    uvloop.install()
    asyncio.run(client.run(port))
    np.savez(output, **client.arrays())


class _Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self, client: _Client) -> None:
        self.client = client
        self.number = -1
        self.floor = 0
        self.data = b""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's form
        self.client.lost(self)

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, end, body = self.data.partition(b"\r\n\r\n")
        if not end:
            return
        lines = head.lower().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines[1:])
        if len(body) < int(fields[b"content-length"]):
            return
        self.data = b""
        self.client.answered(self, int(lines[0].split()[1]), fields, body)


class _Client:
    def __init__(self, traffic: Traffic, controls: Controls, scores: Path) -> None:
        self._rate = traffic.rate
        self._controls = controls
        self._rows = traffic.choose()
        self._wire = [_request(row) for row in make_rows(traffic.rows).tolist()]
        self._scores = {
            version: np.load(scores / f"scores-{version}.npy").tolist() for version in (1, 2)
        }
        count = len(self._rows)
        self._sent = np.full(count, np.nan)
        self._done = np.full(count, np.nan)
        self._facts = {
            name: np.zeros(count, np.int16)
            for name in ("status", "version", "hit", "stale", "wrong")
        }
        self._free: deque[_Connection] = deque()
        self._waiting: deque[int] = deque()
        self._busy = 0
        self._next = 0
        self._highest = 0
        self._begun = 0.0

    async def run(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            _, connection = await loop.create_connection(
                lambda: _Connection(self), "127.0.0.1", port
            )
            self._free.append(connection)
        self._begun = self._controls.begun.value = time.monotonic()
        while not self._controls.stop.value and self._next < len(self._rows) and self._alive():
            now = time.monotonic() - self._begun
            due = min(int(now * self._rate) + 1, len(self._rows))
            for number in range(self._next, due):
                self._start(number)
            self._next = due
            await asyncio.sleep(max(due / self._rate - (time.monotonic() - self._begun), 0.0))
        await self._last()

    def arrays(self) -> dict[str, Any]:
        """What became of each request."""
        end = self._next
        found = {"row": self._rows, "sent": self._sent, "done": self._done, **self._facts}
        return {name: values[:end] for name, values in found.items()}

    def answered(
        self, connection: _Connection, status: int, fields: dict[bytes, bytes], body: bytes
    ) -> None:
        """Takes an answer down, and sends what waits."""
        number = connection.number
        now = time.monotonic()
        self._done[number] = now - self._begun
        self._facts["status"][number] = status
        if status == 200:
            self._judge(connection, number, fields, body, now)
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._busy -= 1
            connection.number = -1
            self._free.append(connection)

    def lost(self, connection: _Connection) -> None:
        """A connection ended; a request on it stays without an answer."""
        if connection.number >= 0:
            self._busy -= 1
        elif connection in self._free:
            self._free.remove(connection)

    def _judge(
        self,
        connection: _Connection,
        number: int,
        fields: dict[bytes, bytes],
        body: bytes,
        now: float,
    ) -> None:
        facts = self._facts
        version = facts["version"][number] = int(fields[b"x-encore-version"])
        score = json.loads(body)["predictions"][0]
        expected = self._scores[version][self._rows[number]]
        facts["hit"][number] = fields[b"x-encore-cache"] == b"hit"
        facts["wrong"][number] = abs(score - expected) > _TOLERANCE
        facts["stale"][number] = version < connection.floor
        if version > self._highest:
            self._highest = version
            self._controls.switched.value = now
            self._controls.highest.value = version

    def _start(self, number: int) -> None:
        if self._free:
            self._busy += 1
            self._send(self._free.popleft(), number)
        else:
            self._waiting.append(number)

    def _send(self, connection: _Connection, number: int) -> None:
        connection.number = number
        connection.floor = self._highest
        self._sent[number] = time.monotonic() - self._begun
        connection.transport.write(self._wire[self._rows[number]])

    def _alive(self) -> bool:
        return bool(self._free or self._busy)

    async def _last(self) -> None:
        end = time.monotonic() + _LAST_SECONDS
        while self._busy and time.monotonic() < end:
            await asyncio.sleep(0.01)
        for connection in self._free:
            connection.transport.close()


def _request(values: list[float]) -> bytes:
    # Rounded again, as four decimals of a float32 are many digits of a double.
    row = {name: round(value, 4) for name, value in zip(FEATURES, values, strict=True)}
    body = json.dumps({"instances": [row]}, separators=(",", ":")).encode()
    head = f"POST /v1/models/{NAME}:predict HTTP/1.1\r\nHost: encore\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
