"""The board: what every interleaving of workers keeps, and what one worker sees."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tfx_encore.gateway.board_file import MAX_WORKERS, Board
from tfx_encore.gateway.errors import ServingError
from tfx_encore.gateway.routing import Router, Routes, Target
from tfx_encore.gateway.routing_board import RoutingBoard
from tfx_encore.schemas.errors import EncoreError

PATIENCE = 10.0
STABLE = Target("taxi", label="stable")


def _routes(version: int) -> Routes:
    loaded = SimpleNamespace(version=version, fingerprint=f"sha256:{version}")
    return Routes({version: loaded}, {"stable": version})


class _Worker:
    """A worker whose event loop is turned by hand."""

    def __init__(self, path: Path, number: int, pid: int, host: Any) -> None:
        self.board = RoutingBoard(
            path,
            number,
            clock=lambda: host.now,
            patience_seconds=PATIENCE,
            is_alive=lambda pid: pid in host.alive,
            pid=pid,
        )
        self.router = Router(self.board.behind, self.board.catch_up)
        self.board.attach(self.router.publish)
        self.pid = pid
        self.offer: asyncio.Task[bool] | None = None
        self.offered = 0
        self.is_hanging = False

    def answer(self) -> int | None:
        """The version that answers a request now; None if the request is refused."""
        try:
            return self.router.pointer(STABLE).target.version
        except ServingError:
            return None


class _Machine(RuleBasedStateMachine):
    """Three workers, one disk; every step of each in any order, with deaths and hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "board"
        Board.create(self.path)
        self.now, self.pids = 1.0, itertools.count(1000)
        self.alive: set[int] = set()
        self.newest = 1
        self.order = [1]  # versions in the order in which they were served first
        self.workers: dict[int, _Worker] = {}
        self.under_way: list[tuple[_Worker, int]] = []

    @initialize()
    def start(self) -> None:
        for number in range(3):
            self._start(number)

    def teardown(self) -> None:
        for worker in self.workers.values():
            worker.board.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
        self.folder.cleanup()

    def _start(self, number: int) -> None:
        pid = next(self.pids)
        self.alive.add(pid)
        self.workers[number] = _Worker(self.path, number, pid, self)

    def _turn(self, work: Callable[[], Any]) -> Any:
        async def turn() -> Any:
            result = work()
            await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(turn())

    def _awake(self, number: int) -> _Worker | None:
        worker = self.workers[number]
        return None if worker.is_hanging else worker

    @rule()
    def push(self) -> None:
        self.newest += 1

    @rule(number=st.integers(0, 2))
    def load_and_offer(self, number: int) -> None:
        worker = self._awake(number)
        if worker is None or worker.offered == self.newest:
            return
        worker.offered = self.newest
        routes = _routes(self.newest)

        def offer() -> None:
            worker.offer = asyncio.get_running_loop().create_task(
                worker.board.agree("taxi", routes)
            )

        self._turn(offer)

    @rule(number=st.integers(0, 2))
    def tick(self, number: int) -> None:
        worker = self._awake(number)
        if worker is not None:
            self._turn(worker.board.tick)

    @rule(number=st.integers(0, 2))
    def tick_while_another_process_holds_the_lock(self, number: int) -> None:
        worker = self._awake(number)
        if worker is not None:
            other = Board(self.path)
            with other.locked() as is_held:
                assert is_held
                self._turn(worker.board.tick)
            other.close()

    @rule(number=st.integers(0, 2), stays=st.booleans())
    def request(self, number: int, stays: bool) -> None:
        worker = self._awake(number)
        if worker is None:
            return
        version = worker.answer()
        if version is None:
            assert not worker.board.is_member or not worker.offered
            return
        if stays:  # it computes for a while and is answered later
            self.under_way.append((worker, version))
        self._answered(version)

    def _answered(self, version: int) -> None:
        """A request that begins after another was answered sees that version or a later one."""
        if version not in self.order:
            self.order.append(version)
            assert self._ready_everywhere(version)
        assert version == self.order[-1], f"{version} after {self.order}"

    def _ready_everywhere(self, version: int) -> bool:
        """Every worker that serves, and has not hung for too long, had loaded the version."""
        return all(
            worker.offered >= version
            for worker in self.workers.values()
            if worker.board.is_member and not worker.is_hanging
        )

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """The second look: what moved meanwhile is begun again, and then answered anew."""
        worker, version = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        if worker.pid not in self.alive or worker.is_hanging:
            return
        now = worker.answer()
        if now is not None and now != version:
            self._answered(now)

    @rule(number=st.integers(0, 2))
    def die_and_be_replaced(self, number: int) -> None:
        worker = self.workers[number]
        self.alive.discard(worker.pid)
        # A killed process says nothing: its board is let go of without leaving.
        worker.board._board.close()
        if worker.offer is not None:
            worker.offer.cancel()
        self._turn(lambda: None)
        self._start(number)

    @rule(number=st.integers(0, 2))
    def hang(self, number: int) -> None:
        self.workers[number].is_hanging = True

    @rule(number=st.integers(0, 2))
    def wake(self, number: int) -> None:
        self.workers[number].is_hanging = False

    @rule(seconds=st.sampled_from([0.05, 1.0, PATIENCE + 1]))
    def wait(self, seconds: float) -> None:
        # Those that are awake show life before any of them looks at the others.
        self.now += seconds
        for worker in self.workers.values():
            if not worker.is_hanging:
                worker.board._beat()

    @rule(number=st.integers(0, 2))
    def others_move_on_without_one_that_hangs(self, number: int) -> None:
        """A worker that shows no life stops the others for no longer than the bound."""
        self.all_come_together_in_the_end()
        others = [other for other in self.workers if other != number]
        self.hang(number)
        self.push()
        for other in others:
            self.load_and_offer(other)
        assert {self.workers[other].answer() for other in others} == {self.newest - 1}
        self.wait(PATIENCE + 1)
        for _ in range(2):
            for other in others:
                self.tick(other)
        assert {self.workers[other].answer() for other in others} == {self.newest}
        self._answered(self.newest)

    @rule()
    def writer_dies_before_its_last_step(self) -> None:
        board = Board(self.path)
        unused = 4096 + ((board.revision + 1) & 1) * 2**20
        if board.revision:
            board._memory[unused : unused + 64] = b"\xff" * 64
        board.close()

    @invariant()
    def members_serve_what_is_agreed(self) -> None:
        if not self.workers:
            return
        board = Board(self.path)
        table = board.read()[1]
        board.close()
        assert all(
            each.ready.get(model) is not None
            for each in table.members().values()
            for model in table.agreed
        )

    @rule()
    def all_come_together_in_the_end(self) -> None:
        """Whatever happened: once all are awake and have loaded the newest, all serve it."""
        for worker in self.workers.values():
            worker.is_hanging = False
        for number in self.workers:
            self.load_and_offer(number)
        for _ in range(3):
            for number in self.workers:
                self.tick(number)
        assert {worker.answer() for worker in self.workers.values()} == {self.newest}
        self._answered(self.newest)


_Machine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, derandomize=True
)
TestEveryInterleavingOfWorkers = _Machine.TestCase


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Board.create(tmp_path / "board")
    return tmp_path / "board"


def _pair(path: Path, count: int = 2) -> list[tuple[RoutingBoard, Router]]:
    pairs = []
    for number in range(count):
        board = RoutingBoard(path, number)
        router = Router(board.behind, board.catch_up)
        board.attach(router.publish)
        pairs.append((board, router))
    return pairs


def test_two_workers_switch_together(path: Path) -> None:
    async def scenario() -> list[int]:
        (first, one), (second, two) = _pair(path)
        seen = []
        await asyncio.gather(first.agree("taxi", _routes(7)), second.agree("taxi", _routes(7)))
        second.tick()
        await second.admitted()
        early = asyncio.create_task(first.agree("taxi", _routes(8)))
        await asyncio.sleep(0)
        first.tick()
        seen += [router.pointer(STABLE).target.version for router in (one, two)]
        assert not early.done()
        late = asyncio.create_task(second.agree("taxi", _routes(8)))
        await asyncio.sleep(0)
        # The first has not ticked: its next request takes over what was agreed.
        seen += [router.pointer(STABLE).target.version for router in (one, two)]
        assert await early
        assert await late
        first.close()
        second.close()
        return seen

    assert asyncio.run(scenario()) == [7, 7, 8, 8]


def test_an_offer_that_a_later_one_replaces_says_so(path: Path) -> None:
    async def scenario() -> tuple[bool, bool]:
        (first, _), (second, _) = _pair(path)
        await first.agree("taxi", _routes(7))
        await second.agree("taxi", _routes(7))
        second.tick()
        older = asyncio.create_task(first.agree("taxi", _routes(8)))
        await asyncio.sleep(0)
        newer = asyncio.create_task(first.agree("taxi", _routes(9)))
        await asyncio.sleep(0)
        await second.agree("taxi", _routes(9))
        first.tick()
        result = (await older, await newer)
        first.close()
        second.close()
        return result

    assert asyncio.run(scenario()) == (False, True)


def test_what_was_noted_can_be_agreed_until_what_replaces_it_is_noted(path: Path) -> None:
    async def scenario() -> list[int]:
        (first, one), (second, _) = _pair(path)
        await first.agree("taxi", _routes(7))
        await second.agree("taxi", _routes(7))
        second.tick()
        offers = [asyncio.create_task(first.agree("taxi", _routes(8)))]
        await asyncio.sleep(0)
        other = Board(path)
        with other.locked():
            offers.append(asyncio.create_task(first.agree("taxi", _routes(9))))
            await asyncio.sleep(0)
        # The first could not say that it wants 9 now, so that the second agrees with it on 8.
        await second.agree("taxi", _routes(8))
        seen = [one.pointer(STABLE).target.version]
        offers.append(asyncio.create_task(second.agree("taxi", _routes(9))))
        await asyncio.sleep(0)
        first.tick()
        second.tick()
        assert await asyncio.gather(*offers) == [False, True, True]
        seen.append(one.pointer(STABLE).target.version)
        for board in (other, first, second):
            board.close()
        return seen

    assert asyncio.run(scenario()) == [8, 9]


def test_what_a_worker_published_while_outside_is_taken_back_when_it_is_admitted(
    path: Path,
) -> None:
    async def scenario() -> tuple[bool, list[str]]:
        (first, _), (second, two) = _pair(path)
        await first.agree("taxi", _routes(7))
        await second.agree("taxi", _routes(8))  # other than what is served: it stays outside
        two.publish("taxi", _routes(8))
        was_member = second.is_member
        assert await second.agree("wine", _routes(1))
        two.publish("wine", _routes(1))
        await second.agree("taxi", _routes(7))
        served = [f"{name} {max(two.routes(name).versions)}" for name in two.models()]
        first.close()
        second.close()
        return was_member, served

    # Nobody has agreed on the model that only the newcomer has.
    assert asyncio.run(scenario()) == (False, ["taxi 7"])


def test_the_poll_takes_over_without_a_request(path: Path) -> None:
    async def scenario() -> int:
        (first, one), (second, _) = _pair(path)
        await first.agree("taxi", _routes(7))
        await second.agree("taxi", _routes(7))
        polls = [asyncio.create_task(board.run()) for board in (first, second)]
        await second.admitted()
        await asyncio.gather(first.agree("taxi", _routes(8)), second.agree("taxi", _routes(8)))
        while one.routes("taxi").labels != {"stable": 8}:
            await asyncio.sleep(0.01)
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
        first.close()
        second.close()
        return max(one.routes("taxi").versions)

    assert asyncio.run(asyncio.wait_for(scenario(), 30)) == 8


def test_a_worker_that_is_not_admitted_refuses_requests_for_now(path: Path) -> None:
    board, router = _pair(path, 1)[0]
    with pytest.raises(ServingError, match="catching up") as refused:
        router.pointer(STABLE)
    assert refused.value.http_status == 503
    board.close()


def test_being_level_costs_one_comparison(path: Path) -> None:
    async def scenario() -> bool:
        (board, _) = _pair(path, 1)[0]
        await board.agree("taxi", _routes(7))
        behind = board.behind()
        board.close()
        return behind

    assert asyncio.run(scenario()) is False


def test_a_file_that_is_no_board_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"x")
    (tmp_path / "zeros").write_bytes(bytes(4096 + 2 * 2**20))
    for name in ("short", "zeros"):
        with pytest.raises(EncoreError, match="no routing board"):
            RoutingBoard(tmp_path / name, 0)


def test_a_board_is_for_its_user_only(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_worker_number_has_a_bound(path: Path) -> None:
    with pytest.raises(ValueError, match="between 0 and 63"):
        RoutingBoard(path, MAX_WORKERS)
