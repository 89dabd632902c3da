"""All connections of a listener, and who looks after them. asyncio."""

from __future__ import annotations

import asyncio
import time

from tfx_encore.gateway.rest.http_message import HttpPolicy
from tfx_encore.gateway.rest.http_protocol import HttpConnection, HttpService, KnownHeads


class Connections:
    """All connections of a listener, and who looks after them.

    Args:
        service: answers their requests.
        policy: what each may cost.
    """

    def __init__(self, service: HttpService, policy: HttpPolicy) -> None:
        self._service = service
        self._policy = policy
        self._open: set[HttpConnection] = set()
        self._heads: KnownHeads = {}
        limits = (policy.head_seconds, policy.body_seconds, policy.idle_seconds)
        shortest = min(*limits, policy.write_seconds, policy.linger_seconds)
        self._interval = min(1.0, shortest / 4)

    def __len__(self) -> int:
        """Number of connections that are open."""
        return len(self._open)

    def connect(self) -> HttpConnection:
        """Returns what handles a new connection."""
        return HttpConnection(self._service, self._policy, self._open, self._heads)

    async def look_after(self) -> None:
        """Ends what takes too long, until it is cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            self.tick(time.monotonic())

    def tick(self, now: float) -> None:
        """Looks at each connection once.

        Args:
            now: seconds, never going back.
        """
        self._service.tick()
        for connection in list(self._open):
            connection.look_after(now)

    async def drain(self, grace_seconds: float, idle_seconds: float = 0.5) -> None:
        """Lets everything that is under way be answered, then ends all connections.

        A client that sends its next request now gets an answer that ends the connection; one that
        sends nothing for `idle_seconds` is closed, as nothing tells it sooner.
        """
        clock = asyncio.get_running_loop().time
        begun = clock()
        for connection in self._open:
            connection.drain()
        while self._open and clock() - begun < grace_seconds:
            if clock() - begun >= min(idle_seconds, grace_seconds / 2):
                for connection in list(self._open):
                    if connection.is_idle:
                        connection.close()
            await asyncio.sleep(0.02)
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)
