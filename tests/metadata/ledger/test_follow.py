"""Following a ledger: waiting, gaps, stopping."""

from __future__ import annotations

import itertools

import pytest

from tfx_encore.metadata.ledger import follow, safe_name, without_gap
from tfx_encore.metadata.memory_ledger import MemoryLedger
from tfx_encore.schemas.errors import LedgerError

NOW = "2026-11-20T18:50:46.000000Z"


class Time:
    """A clock that moves only when someone sleeps."""

    def __init__(self):
        self.now = 0.0
        self.pauses = []

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def clock(self):
        return self.now


@pytest.fixture
def time():
    return Time()


def test_it_pauses_between_looks_that_find_nothing(draft, time):
    ledger, looks = MemoryLedger(), itertools.count()
    ledger.append(draft())
    found = list(
        follow(
            ledger,
            "taxi",
            poll_seconds=2.5,
            stop=lambda: next(looks) >= 5,
            sleep=time.sleep,
            clock=time.clock,
        )
    )
    assert [record.sequence for record in found] == [1]
    assert time.pauses == [2.5, 2.5, 2.5]


def test_a_missing_record_is_waited_for_and_then_named(draft, time):
    ledger = MemoryLedger()
    for sequence in (1, 3):
        ledger.publish(draft().numbered(sequence, NOW))
    followed = follow(
        ledger, "taxi", poll_seconds=10, gap_seconds=60, sleep=time.sleep, clock=time.clock
    )
    assert next(followed).sequence == 1
    with pytest.raises(LedgerError, match=r"record 2 is missing although record 3 .* within 60 s"):
        next(followed)
    assert time.now == 60


def test_the_wait_for_a_missing_record_starts_anew_at_each_gap(draft, time):
    ledger = MemoryLedger()
    late = {50: 2, 100: 4}
    for sequence in (1, 3, 5):
        ledger.publish(draft().numbered(sequence, NOW))

    def sleep(seconds):
        time.sleep(seconds)
        if sequence := late.pop(int(time.now), None):
            ledger.publish(draft().numbered(sequence, NOW))

    followed = follow(
        ledger, "taxi", poll_seconds=10, gap_seconds=60, sleep=sleep, clock=time.clock
    )
    assert [next(followed).sequence for _ in range(5)] == [1, 2, 3, 4, 5]
    assert time.now == 100


def test_waiting_for_the_next_record_never_ends_in_an_error(draft, time):
    ledger = MemoryLedger()
    followed = follow(
        ledger,
        "taxi",
        poll_seconds=3600,
        gap_seconds=60,
        sleep=lambda s: time.sleep(s) or (time.now > 1e6 and ledger.append(draft())),
        clock=time.clock,
    )
    assert next(followed).sequence == 1
    assert time.now > 1e6


def test_stopping_between_two_records_leaves_the_second_for_later(draft):
    ledger, taken = MemoryLedger(), []
    for _ in range(3):
        ledger.append(draft())
    for record in follow(ledger, "taxi", stop=lambda: len(taken) == 2):
        taken.append(record.sequence)  # noqa: PERF401 - stop looks at it
    assert taken == [1, 2]
    assert next(follow(ledger, "taxi", after=2)).sequence == 3


def test_catching_up_asks_for_bounded_pages(draft):
    ledger, limits = MemoryLedger(), []
    for _ in range(1200):
        ledger.append(draft())

    class Watched:
        def records(self, model, *, after=0, limit=None):
            limits.append(limit)
            return ledger.records(model, after=after, limit=limit)

    followed = follow(Watched(), "taxi")
    assert [next(followed).sequence for _ in range(1200)] == list(range(1, 1201))
    assert limits == [500, 500, 500]


def test_only_the_records_before_a_gap_are_ready(draft):
    records = [draft().numbered(sequence, NOW) for sequence in (4, 5, 7, 8)]
    assert [r.sequence for r in without_gap(records, 3)] == [4, 5]
    assert without_gap(records, 2) == ()
    assert without_gap([], 0) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("taxi", "taxi"),
        ("gateway@host-1.example", "gateway@host-1.example"),
        ("Taxi", "%54axi"),
        ("a/b", "a%2fb"),
        ("..", "%2e."),
        ("é", "%c3%a9"),
        ("100%", "100%25"),
    ],
)
def test_safe_names_keep_plain_text_and_escape_the_rest(text, expected):
    assert safe_name(text) == expected
