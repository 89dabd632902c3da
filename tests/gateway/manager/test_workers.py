"""Two workers with a manager each, agreeing by a real board."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfx_encore.gateway.models.manager import Aspirations
from tfx_encore.gateway.routing import Router
from tfx_encore.gateway.routing_board import Board, RoutingBoard

Run = Callable[..., Any]


def wants(*versions: int) -> Aspirations:
    highest = max(versions)
    return Aspirations(
        {v: f"/nowhere/{v}" for v in versions}, {"stable": highest}, highest, release=True
    )


def attach(world: Any, board: RoutingBoard) -> asyncio.Task[None]:
    """Lets a world's manager agree by a board."""
    router: Router = world.router
    router._behind, router._catch_up = board.behind, board.catch_up
    board.attach(router.publish)
    return asyncio.create_task(board.run())


def test_workers_switch_together_and_past_a_version_that_one_cannot_load(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "board"
    Board.create(path)
    boards = [RoutingBoard(path, worker) for worker in (0, 1)]

    async def with_both(one: Any, two: Any) -> None:
        running = [attach(world, board) for world, board in zip((one, two), boards, strict=True)]
        for world in (one, two):
            world.manager.aspire("m", wants(1))
        await one.loads.make(1)
        await one.quiet()
        await two.loads.make(1)
        for world in (one, two):
            await world.until_answers(1)
        for world in (one, two):
            world.manager.aspire("m", wants(1, 2))
        await one.loads.make(2)
        await two.loads.until(2)
        two.loads.fail(2)
        await two.until_state(2, "END")
        await one.quiet()
        assert [one.answers(), two.answers()] == [1, 1]
        assert one.states() == {2: "LOADING", 1: "AVAILABLE"}
        for world in (one, two):
            world.manager.aspire("m", wants(1, 3))
            await world.loads.make(3)
        for world in (one, two):
            await world.until_answers(3)
            assert world.answers(label="stable") == 3
        await one.until(lambda: one.loads.open() == {1, 3})
        for task in running:
            task.cancel()

    async def outer(one: Any) -> None:
        two = type(one)(boards[1].agree, drain_poll_seconds=0.001)
        try:
            await with_both(one, two)
        finally:
            await two.manager.close()

    run(outer, boards[0].agree)
    for board in boards:
        board.close()
