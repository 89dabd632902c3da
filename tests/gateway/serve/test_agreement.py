"""How workers agree, on the table alone."""

from __future__ import annotations

from types import SimpleNamespace

from tfx_encore.gateway import agreement
from tfx_encore.gateway.agreement import NOTHING, Table
from tfx_encore.gateway.routing import Routes


def _routes(version: int, fingerprint: str = "f", **labels: int) -> Routes:
    return Routes({version: SimpleNamespace(fingerprint=fingerprint)}, labels)


def _serving(*workers: int, routes: str = "r7") -> Table:
    table = Table()
    for worker in workers:
        table = agreement.enter(table, worker, 100 + worker)
        table = agreement.note(table, worker, "taxi", routes)
        table = agreement.admit(table, worker)
    return table


def test_equal_routes_have_one_digest_and_different_ones_do_not() -> None:
    base = agreement.digest(_routes(7, stable=7))
    assert base == agreement.digest(_routes(7, stable=7))
    others = [_routes(8, stable=7), _routes(7, canary=7), _routes(7, "g", stable=7)]
    others.append(Routes(_routes(7).versions, {"stable": 7}, default=7))
    assert len({base, *map(agreement.digest, others)}) == 5
    assert agreement.digest(None) == agreement.digest(Routes()) == NOTHING


def test_the_first_worker_says_what_is_served_and_equal_ones_join_it() -> None:
    table = _serving(0, 1)
    assert table.agreed == {"taxi": "r7"}
    assert sorted(table.members()) == [0, 1]


def test_a_worker_that_is_ready_for_something_else_stays_outside() -> None:
    table = agreement.note(agreement.enter(_serving(0), 1, 101), 1, "taxi", "r8")
    assert agreement.admit(table, 1) is table


def test_nothing_switches_before_every_member_is_ready() -> None:
    table = agreement.settle(agreement.note(_serving(0, 1), 0, "taxi", "r8"))
    assert table.agreed == {"taxi": "r7"}
    assert agreement.waited_for(table, "taxi", 0) == [1]
    after = agreement.settle(agreement.note(table, 1, "taxi", "r8"))
    assert after.agreed == {"taxi": "r8"}
    assert after.epoch == table.epoch + 1


def test_a_worker_outside_delays_nobody() -> None:
    table = agreement.enter(_serving(0), 1, 101)
    table = agreement.settle(agreement.note(table, 0, "taxi", "r8"))
    assert table.agreed == {"taxi": "r8"}


def test_a_later_note_takes_the_place_of_the_one_before() -> None:
    table = agreement.note(_serving(0, 1), 0, "taxi", "r8")
    table = agreement.note(table, 0, "taxi", "r9")
    assert agreement.settle(agreement.note(table, 1, "taxi", "r8")).agreed == {"taxi": "r7"}


def test_members_that_are_dropped_are_not_waited_for_and_come_back_only_when_ready() -> None:
    table = agreement.note(_serving(0, 1), 0, "taxi", "r8")
    table = agreement.settle(agreement.drop(table, {1}))
    assert table.agreed == {"taxi": "r8"}
    assert agreement.admit(table, 1) is table
    back = agreement.admit(agreement.note(table, 1, "taxi", "r8"), 1)
    assert sorted(back.members()) == [0, 1]


def test_a_process_that_takes_a_place_over_starts_outside() -> None:
    before = _serving(0, 1)
    table = agreement.enter(before, 1, 999)
    assert sorted(table.members()) == [0]
    assert table.epoch > before.epoch
    assert not table.workers[1].ready


def test_who_leaves_is_forgotten_and_leaving_twice_changes_nothing() -> None:
    table = agreement.leave(_serving(0, 1), 1)
    assert sorted(table.workers) == [0]
    assert agreement.leave(table, 1) is table


def test_a_model_is_removed_when_every_member_says_so() -> None:
    table = agreement.note(_serving(0, 1), 0, "taxi", NOTHING)
    assert agreement.settle(table).agreed == {"taxi": "r7"}
    assert agreement.settle(agreement.note(table, 1, "taxi", NOTHING)).agreed == {}


def test_what_changes_nothing_gives_the_same_table() -> None:
    table = _serving(0)
    assert agreement.note(table, 0, "taxi", "r7") is table
    assert agreement.settle(table) is table
    assert agreement.drop(table, {5}) is table
    assert agreement.admit(table, 0) is table
