"""What every ledger promises: the fake, the journal, and ML Metadata over three stores."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from tfx_encore.metadata.ledger import Ledger, cursor_of, follow
from tfx_encore.schemas.errors import LedgerError
from tfx_encore.schemas.records import (
    Cause,
    SelectFingerprint,
    SelectKeys,
    SelectSlice,
)

NOW = "2026-11-20T18:50:46.000000Z"


def _numbered(draft, *sequences, **fields):
    return [draft(**fields).numbered(sequence, NOW) for sequence in sequences]


def test_it_is_a_ledger(subject):
    assert isinstance(subject.open(), Ledger)


def test_an_empty_ledger_has_no_records_no_models_and_no_acknowledgements(subject):
    ledger = subject.open()
    assert ledger.records("taxi") == ()
    assert ledger.models() == ()
    assert ledger.acknowledgements("taxi") == ()
    assert cursor_of(ledger, "taxi", "gateway") == 0


def test_appending_numbers_each_model_from_one(subject, draft):
    ledger = subject.open()
    sequences = [ledger.append(draft(model)).sequence for model in ("taxi", "bikes", "taxi")]
    assert sequences == [1, 1, 2]
    assert ledger.models() == ("bikes", "taxi")


def test_models_that_differ_only_in_case_are_different_models(subject, draft):
    ledger = subject.open()
    assert [ledger.append(draft(name)).sequence for name in ("taxi", "Taxi", "TAXI")] == [1, 1, 1]
    assert ledger.models() == ("TAXI", "Taxi", "taxi")
    assert [r.model for r in subject.open().records("Taxi")] == ["Taxi"]


@pytest.mark.parametrize(
    "selector",
    [
        SelectFingerprint("sha256:" + "a" * 64),
        SelectSlice({"payment_type": "Prcard \u2028 'né' 日本 😀 \\", "hour": "8"}),
        SelectKeys(("ab" * 16, "cd" * 16)),
        SelectKeys(tuple(f"{n:064x}" for n in range(3000))),
    ],
    ids=["fingerprint", "slice", "keys", "many-keys"],
)
def test_a_record_comes_back_as_it_was_appended(subject, draft, selector):
    appended = subject.open().append(
        draft(
            selector=selector,
            cause=Cause.ROLLED_BACK,
            reason='two\nlines, "quotes" and a naïve 名前',
            label="stable",
            version_before=7,
            version_after=6,
            fingerprint_before="sha256:bb",
            fingerprint_after="sha256:aa",
        )
    )
    (read,) = subject.open().records("taxi")
    assert read == appended


def test_records_are_listed_after_a_cursor_and_up_to_a_limit(subject, draft):
    ledger = subject.open()
    appended = [ledger.append(draft(reason=f"reason {n}")) for n in range(7)]
    assert list(ledger.records("taxi")) == appended
    assert list(ledger.records("taxi", after=4)) == appended[4:]
    assert list(ledger.records("taxi", after=2, limit=3)) == appended[2:5]
    assert ledger.records("taxi", after=7) == ()
    assert ledger.records("taxi", after=99) == ()
    assert ledger.records("taxi", limit=0) == ()


def test_what_one_instance_writes_another_reads_at_once(subject, draft):
    reader, writer = subject.open(), subject.open()
    assert reader.records("taxi") == ()
    for expected in range(1, 4):
        writer.append(draft())
        assert [r.sequence for r in reader.records("taxi")] == list(range(1, expected + 1))
    assert reader.append(draft()).sequence == 4
    assert writer.append(draft()).sequence == 5


def test_a_published_record_keeps_the_place_it_was_given(open_subject, draft):
    ledger = open_subject.open()
    first, second = _numbered(draft, 1, 2)
    assert ledger.publish(first) is True
    assert ledger.publish(second) is True
    assert open_subject.open().records("taxi") == (first, second)
    assert ledger.append(draft()).sequence == 3


def test_publishing_again_changes_nothing_and_says_so(open_subject, draft):
    (record,) = _numbered(draft, 1)
    ledger = open_subject.open()
    assert [ledger.publish(record), ledger.publish(record)] == [True, False]
    assert open_subject.open().publish(record) is False
    assert open_subject.open().records("taxi") == (record,)


def test_publishing_what_was_appended_here_changes_nothing(subject, draft):
    record = subject.open().append(draft())
    assert subject.open().publish(record) is False
    assert subject.open().records("taxi") == (record,)


def test_a_different_record_at_a_taken_place_is_refused_and_named(subject, draft):
    ledger = subject.open()
    held = ledger.append(draft())
    with pytest.raises(LedgerError, match=r"taxi/000001 .*by ada.*'wrong fares'.*'other reason'"):
        ledger.publish(replace(held, reason="other reason"))
    assert subject.open().records("taxi") == (held,)


def test_a_journal_takes_no_record_that_it_has_not_numbered(subject, draft):
    (record,) = _numbered(draft, 1)
    if subject.gives_all_sequences:
        with pytest.raises(LedgerError, match="taxi/000001 was not numbered by the journal"):
            subject.open().publish(record)
        assert subject.open().records("taxi") == ()
    else:
        assert subject.open().publish(record) is True


def test_a_gap_is_listed_as_a_gap(open_subject, draft):
    ledger = open_subject.open()
    one, two, four = _numbered(draft, 1, 2, 4)
    for record in (one, four, two):
        ledger.publish(record)
    assert ledger.records("taxi") == (one, two, four)
    assert open_subject.open().records("taxi", after=2) == (four,)


def test_an_acknowledgement_names_record_consumer_and_time(subject, draft):
    ledger = subject.open()
    record = ledger.append(draft())
    ack = ledger.acknowledge(record, "gateway@host-1")
    assert (ack.model, ack.sequence, ack.consumer) == ("taxi", 1, "gateway@host-1")
    assert ack.acknowledged_at >= record.created_at
    assert subject.open().acknowledgements("taxi") == (ack,)


def test_acknowledging_twice_returns_the_first_and_changes_nothing(subject, draft):
    ledger = subject.open()
    record = ledger.append(draft())
    first = ledger.acknowledge(record, "gateway")
    assert ledger.acknowledge(record, "gateway") == first
    assert subject.open().acknowledge(record, "gateway") == first
    assert subject.open().acknowledgements("taxi") == (first,)


def test_acknowledgements_are_listed_by_sequence_then_consumer(subject, draft):
    ledger = subject.open()
    records = [ledger.append(draft()) for _ in range(3)]
    other = ledger.append(draft("bikes"))
    for record, consumer in ((records[1], "b"), (records[1], "a"), (records[0], "b")):
        ledger.acknowledge(record, consumer)
    ledger.acknowledge(other, "a")
    listed = [(ack.sequence, ack.consumer) for ack in ledger.acknowledgements("taxi")]
    assert listed == [(1, "b"), (2, "a"), (2, "b")]
    assert [a.consumer for a in ledger.acknowledgements("taxi", sequence=2)] == ["a", "b"]
    assert ledger.acknowledgements("taxi", sequence=3) == ()


def test_consumers_with_awkward_names_stay_apart(subject, draft):
    names = ["Gateway", "gateway", "gateway/1", "gateway%2f1", "../../x", "..", "é", "日本", "a b"]
    ledger = subject.open()
    record = ledger.append(draft())
    for name in names:
        ledger.acknowledge(record, name)
    found = subject.open().acknowledgements("taxi")
    assert sorted(ack.consumer for ack in found) == sorted(names)


def test_a_record_that_the_ledger_lacks_cannot_be_acknowledged(subject, draft):
    ledger = subject.open()
    held = ledger.append(draft())
    with pytest.raises(LedgerError, match="taxi/000002 is not in this ledger"):
        ledger.acknowledge(replace(held, sequence=2), "gateway")
    with pytest.raises(LedgerError, match="not the DATA_DRIFT"):
        ledger.acknowledge(replace(held, cause=Cause.DATA_DRIFT), "gateway")
    assert ledger.acknowledgements("taxi") == ()


def test_empty_names_are_refused(subject, draft):
    ledger = subject.open()
    record = ledger.append(draft())
    with pytest.raises(LedgerError, match="empty name"):
        ledger.acknowledge(record, "")


def test_a_follower_that_restarts_misses_and_repeats_nothing(subject, draft):
    writer, seen = subject.open(), []

    def run_until(count):
        ledger = subject.open()
        for record in follow(
            ledger,
            "taxi",
            after=cursor_of(ledger, "taxi", "gateway"),
            poll_seconds=0.01,
            stop=lambda: len(seen) >= count,
        ):
            seen.append(record.sequence)
            ledger.acknowledge(record, "gateway")

    for _ in range(4):
        writer.append(draft())
    run_until(3)
    writer.append(draft())
    run_until(5)
    assert seen == [1, 2, 3, 4, 5]
    assert cursor_of(subject.open(), "taxi", "gateway") == 5


def test_a_follower_that_dies_before_it_acknowledges_gets_the_record_again(subject, draft):
    subject.open().append(draft())
    first = next(follow(subject.open(), "taxi"))
    again = next(follow(subject.open(), "taxi", after=cursor_of(subject.open(), "taxi", "gateway")))
    assert first == again


def test_a_follower_yields_in_order_what_was_published_out_of_order(open_subject, draft):
    waiting = _numbered(draft, 3, 2, 5, 1, 4)
    writer, reader = open_subject.open(), open_subject.open()
    followed = follow(reader, "taxi", sleep=lambda _: writer.publish(waiting.pop(0)))
    assert [next(followed).sequence for _ in range(5)] == [1, 2, 3, 4, 5]
    assert waiting == []


def test_threads_that_share_a_ledger_get_each_sequence_once(subject, draft):
    ledger, taken = subject.open(), []

    def work():
        for _ in range(5):
            record = ledger.append(draft())
            ledger.acknowledge(record, "gateway")
            taken.append(record.sequence)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 21))
    assert [a.sequence for a in subject.open().acknowledgements("taxi")] == list(range(1, 21))
