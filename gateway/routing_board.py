"""The board by which workers agree on routes: a small file that they share in memory.

`agreement` says what stands there, `board_file` how. A worker sees that it is behind by comparing
one number in memory with another (about 0.1 us).

What a worker wants is kept with the worker and written by `tick`, which does nothing if the lock is
taken: nobody waits for a process that hangs. A member that hangs keeps others from switching for
`patience_seconds` at most, then it is dropped. When it wakes, it finds that out before it answers,
and refuses requests (UNAVAILABLE) until it can serve what is agreed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tfx_encore.gateway import agreement
from tfx_encore.gateway.agreement import NOTHING, Table
from tfx_encore.gateway.board_file import MAX_WORKERS, Board
from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.routing import Routes

log = logging.getLogger("tfx_encore.gateway")

POLL_SECONDS = 0.05
PATIENCE_SECONDS = 10.0
"""How long a member that shows no life keeps the others from switching."""


class _Offer(NamedTuple):
    """Routes that this worker could serve at once."""

    digest: str
    routes: Routes | None


_NO_OFFER = _Offer(NOTHING, None)


class RoutingBoard:
    """One worker's part in the agreement. Used from one event loop.

    Args:
        path: of the board.
        worker: this worker's number.
        clock: seconds, never going back, the same in every process of the host.
        patience_seconds: how long a member that shows no life is waited for.
        is_alive: whether there is a process of a number.
        pid: of this process.
    """

    def __init__(
        self,
        path: Path,
        worker: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        patience_seconds: float = PATIENCE_SECONDS,
        is_alive: Callable[[int], bool] | None = None,
        pid: int | None = None,
    ) -> None:
        if not 0 <= worker < MAX_WORKERS:
            raise ValueError(f"worker {worker} is not between 0 and {MAX_WORKERS - 1}")
        self.worker = worker
        self._board = Board(path)
        self._words = self._board.words
        self._clock = clock
        self._patience = patience_seconds
        self._is_alive = is_alive or _is_alive
        self._pid = os.getpid() if pid is None else pid
        self._publish: Callable[[str, Routes | None], None] = lambda _model, _routes: None
        self._seen = -1
        self._is_member = False
        self._is_closed = False
        self._wanted: dict[str, _Offer] = {}
        self._offers: dict[str, list[_Offer]] = {}
        self._noted: dict[str, str] = {}
        self._published: dict[str, str] = {}
        self._waiting: dict[str, asyncio.Future[bool]] = {}
        self._admitted = asyncio.Event()
        self._beat()

    @property
    def folder(self) -> Path:
        """Where the board is, and beside it the sockets of all workers."""
        return self._board.path.parent

    @property
    def is_member(self) -> bool:
        """Whether this worker may answer, as far as it knows."""
        return self._is_member

    def attach(self, publish: Callable[[str, Routes | None], None]) -> None:
        """Says who takes over what was agreed: `Router.publish`."""
        self._publish = publish

    def behind(self) -> bool:
        """True if something may have been agreed that is not published here. For `Router`."""
        return self._words[0] != self._seen

    def catch_up(self) -> None:
        """Publishes what was agreed, in one step. For `Router`.

        Raises:
            ServingError: UNAVAILABLE, this worker was dropped or is not admitted yet.
        """
        self._take()
        if not self._is_member:
            raise ServingError(
                Code.UNAVAILABLE, "this worker is catching up with the others; try again"
            )

    async def agree(self, model: str, routes: Routes | None) -> bool:
        """Offers routes, and waits until every member serves them.

        A worker that is not a member yet does not wait: what it offers is published when it is
        admitted. Versions in offered routes must stay loaded until a later offer for the same
        model has returned True.

        Args:
            model: the model's name.
            routes: what could be served at once; None to serve the model no longer.

        Returns:
            True if they are published, or will be on admission; False if a later offer of this
            worker for the model took their place.
        """
        before = self._waiting.pop(model, None)
        if before is not None and not before.done():
            before.set_result(False)
        self._wanted[model] = _Offer(agreement.digest(routes), routes)
        self._offers.setdefault(model, []).append(self._wanted[model])
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[model] = future
        self.tick()
        return await future

    async def admitted(self) -> None:
        """Waits until this worker serves what the others serve: its listeners may open."""
        await self._admitted.wait()

    async def run(self) -> None:
        """Ticks until cancelled."""
        while True:
            self.tick()
            await asyncio.sleep(POLL_SECONDS)

    def tick(self) -> None:
        """Shows life, says what this worker wants, and takes over what was agreed."""
        self._beat()
        if self._has_work():
            with self._board.locked() as is_mine:
                if is_mine:
                    self._negotiate()
        self._take()

    def close(self) -> None:
        """Leaves: nobody waits for this worker any more. Twice is as good as once."""
        if self._is_closed:
            return
        self._is_closed = True
        with self._board.locked() as is_mine:
            if is_mine:
                table = self._board.read()[1]
                mine = table.workers.get(self.worker)
                if mine is not None and mine.pid == self._pid:
                    self._board.write(agreement.settle(agreement.leave(table, self.worker)))
        for future in self._waiting.values():
            future.cancel()
        self._board.close()

    def _beat(self) -> None:
        self._board.heartbeats[self.worker] = self._clock()

    def _has_work(self) -> bool:
        return not self._is_member or not all(map(self._is_settled, self._wanted))

    def _is_settled(self, model: str) -> bool:
        """True if the last offer for a model is known to all and, by a member, published."""
        wanted = self._wanted[model].digest
        if self._noted.get(model) != wanted:
            return False
        return not self._is_member or self._published.get(model, NOTHING) == wanted

    # --- under the lock --------------------------------------------------------------------------

    def _negotiate(self) -> None:
        before = self._board.read()[1]
        table = before
        mine = table.workers.get(self.worker)
        if mine is None or mine.pid != self._pid:
            table = agreement.enter(table, self.worker, self._pid)
        for model, offer in self._wanted.items():
            table = agreement.note(table, self.worker, model, offer.digest)
        table = agreement.drop(table, self._lifeless(table))
        if self._wanted:
            table = agreement.admit(table, self.worker)
        table = agreement.settle(table)
        if table != before:
            self._board.write(table)
        for model, offer in self._wanted.items():
            # What was offered before can no longer be agreed.
            kept = [o for o in self._offers[model] if o.digest == table.agreed.get(model, NOTHING)]
            self._offers[model] = [*kept[:1], offer]
            self._noted[model] = offer.digest

    def _lifeless(self, table: Table) -> set[int]:
        """The members in the way that died, or showed no life for too long."""
        members = {n: each for n, each in table.members().items() if n != self.worker}
        return {
            number
            for number in members
            if self._is_in_the_way(table, number)
            and (not self._is_alive(members[number].pid) or self._is_silent(number))
        }

    def _is_in_the_way(self, table: Table, number: int) -> bool:
        return not self._is_member or any(
            number in agreement.waited_for(table, model, self.worker) for model in self._wanted
        )

    def _is_silent(self, number: int) -> bool:
        return self._clock() - self._board.heartbeats[number] > self._patience

    # --- without the lock ------------------------------------------------------------------------

    def _take(self) -> None:
        """Publishes what the table says; answers those who wait for it."""
        if self.behind():
            revision, table = self._board.read()
            mine = table.workers.get(self.worker)
            is_member = mine is not None and mine.pid == self._pid and mine.is_member
            if is_member:
                # What an outsider published for itself counts for nothing.
                models = {*table.agreed, *self._published, *self._wanted}
                for model in sorted(models):
                    wanted = table.agreed.get(model, NOTHING)
                    if not self._is_member or self._published.get(model, NOTHING) != wanted:
                        self._take_over(model, wanted)
            self._note_membership(is_member)
            # An outsider stays behind, so that each request asks again.
            self._seen = revision if is_member else -1
        self._answer_waiting()

    def _take_over(self, model: str, wanted: str) -> None:
        offers = [offer for offer in self._offers.get(model, []) if offer.digest == wanted]
        offer = offers[-1] if offers else _NO_OFFER
        if offer.digest != wanted:
            log.error("agreed on what was not offered model=%s routes=%s", model, wanted)
        is_new = wanted != self._published.get(model, NOTHING)
        self._publish(model, offer.routes)
        self._published[model] = wanted
        if is_new:
            log.info("routes agreed model=%s routes=%s", model, wanted)

    def _note_membership(self, is_member: bool) -> None:
        if is_member == self._is_member:
            return
        self._is_member = is_member
        if is_member:
            self._admitted.set()
            log.info("admitted by the other workers")
        else:
            self._admitted.clear()
            log.warning("dropped by the other workers")

    def _answer_waiting(self) -> None:
        for model, future in list(self._waiting.items()):
            if self._is_settled(model):
                del self._waiting[model]
                if not future.done():
                    future.set_result(True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
