"""What follows from what is wanted and what is there."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from tfx_encore.gateway.models.aspirations import (
    Aspirations,
    Choice,
    choose,
    lacking,
    load_order,
)

NOTHING = Choice(frozenset(), {}, None)


def wants(
    *versions: int, labels: dict[str, int] | None = None, default: int | None = None
) -> Aspirations:
    return Aspirations({v: f"/m/{v}" for v in versions}, labels or {}, default)


def at(*versions: int, labels: dict[str, int] | None = None, default: int | None = None) -> Choice:
    return Choice(frozenset(versions), labels or {}, default)


def test_the_highest_that_answers_is_the_default() -> None:
    assert choose(wants(1, 2, 3), {1, 2}, NOTHING) == at(1, 2, default=2)


def test_the_old_version_stays_until_the_new_one_answers_and_goes_in_the_same_step() -> None:
    old = at(1, default=1)
    assert choose(wants(2), {1}, old) == old
    assert choose(wants(2), {1, 2}, old) == at(2, default=2)


def test_a_version_that_is_gone_is_left_for_an_older_one_as_soon_as_that_answers() -> None:
    now = at(2, default=2)
    assert choose(wants(1), {2}, now) == now
    assert choose(wants(1), {1, 2}, now) == at(1, default=1)


def test_nothing_wanted_means_nothing_answers() -> None:
    now = at(1, labels={"stable": 1}, default=1)
    assert choose(wants(labels={"stable": 1}), {1}, now) == at(labels={"stable": 1})


def test_a_label_and_its_default_move_together_when_the_version_answers() -> None:
    now = at(1, labels={"stable": 1}, default=1)
    wanted = wants(1, 2, labels={"stable": 2}, default=2)
    assert choose(wanted, {1}, now) == now
    assert choose(wanted, {1, 2}, now) == at(1, 2, labels={"stable": 2}, default=2)


def test_a_label_keeps_its_old_version_loaded_though_nobody_wants_that() -> None:
    now = at(1, 3, labels={"stable": 1}, default=3)
    wanted = wants(2, 3, labels={"stable": 2})
    assert choose(wanted, {1, 3}, now) == at(1, 3, labels={"stable": 1}, default=3)
    assert choose(wanted, {1, 2, 3}, now) == at(2, 3, labels={"stable": 2}, default=3)


def test_a_label_at_a_version_that_the_policy_leaves_behind_answers_no_more() -> None:
    now = at(1, labels={"stable": 1}, default=1)
    assert choose(wants(2, labels={"stable": 1}), {1, 2}, now) == at(
        2, labels={"stable": 1}, default=2
    )


def test_a_new_label_at_a_version_that_is_not_there_answers_nothing() -> None:
    assert choose(wants(1, labels={"canary": 2}), {1}, NOTHING).labels == {"canary": 2}


def test_a_default_that_is_not_there_yet_is_not_replaced_by_a_canary() -> None:
    wanted = wants(2, 3, labels={"stable": 2, "canary": 3}, default=2)
    choice = choose(wanted, {3}, NOTHING)
    assert choice == at(3, labels={"stable": 2, "canary": 3}, default=2)


def test_a_default_that_nobody_can_load_is_no_default() -> None:
    assert choose(wants(1, 2, default=9), {1, 2}, NOTHING).default == 2


def test_a_choice_once_made_is_made_again() -> None:
    wanted = wants(2, 3, labels={"stable": 2, "canary": 4}, default=2)
    for available in ({2}, {3}, {2, 3}, {1, 3}):
        once = choose(wanted, available, at(1, labels={"stable": 1}, default=1))
        assert choose(wanted, available, once) == once


def test_the_default_is_loaded_first_then_labels_then_the_newest() -> None:
    assert load_order(wants(1, 2, 3, 4, labels={"stable": 2, "canary": 3}, default=2)) == [
        *(2, 3, 4, 1)
    ]
    assert load_order(wants(1, 2, 3)) == [3, 2, 1]


@pytest.mark.parametrize(
    ("wanted", "available", "failed", "said"),
    [
        (wants(), (), (), ["no version is there to be served"]),
        (wants(1), (), (), ["version 1 (default) is not loaded yet"]),
        (wants(1), (), (1,), ["version 1 (default) could not be loaded"]),
        (wants(1, 2), (1,), (), ["version 2 (default) is not loaded yet"]),
        (wants(1, 2), (1,), (2,), []),
        (wants(1, 2), (2,), (), []),
        (
            wants(1, 2, labels={"a": 1, "b": 2}, default=2),
            (2,),
            (1,),
            ["version 1 (label a) could not be loaded"],
        ),
        (Aspirations(release=True), (), (), []),
    ],
)
def test_what_is_lacking_is_said(
    wanted: Aspirations, available: Collection[int], failed: Collection[int], said: list[str]
) -> None:
    assert lacking(wanted, set(available), failed) == said
