"""What invalidation records withdraw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.cache import invalidation
from tfx_encore.cache.entry import Entry
from tfx_encore.cache.invalidation import InvalidationState, kills, needs_erasure
from tfx_encore.cache.rows import cell, encode_row
from tfx_encore.cache.selection import TRANSFORMED, covers, holds_value
from tfx_encore.schemas.errors import LedgerError
from tfx_encore.schemas.records import (
    Cause,
    InvalidationRecord,
    SelectAll,
    SelectFingerprint,
    SelectKeys,
    SelectSlice,
)


def make_entry(**given_fields: Any) -> Entry:
    features = given_fields.pop("features", {"payment": "Cash", "hour": 8})
    values: dict[str, Any] = {
        "key": b"k" * 32,
        "row": encode_row({name: cell(value) for name, value in features.items()}),
        "answer": b"a",
        "fingerprint": "f1",
        "kind": "answer",
        "generation": 0,
        "computed_at": 0.0,
        "expires_at": 0.0,
        "cost_us": 1.0,
    }
    return Entry(**(values | given_fields))


@pytest.fixture
def state(clock) -> InvalidationState:
    """A state that has read an empty ledger."""
    made = InvalidationState("taxi", 60.0, clock)
    made.confirm(clock())
    return made


# --- causes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", [Cause.MODEL_PUSHED, Cause.ROLLED_BACK])
def test_a_moved_label_withdraws_nothing_so_that_a_rollback_is_warm(state, record, cause):
    entry = make_entry()
    state.apply(record(1, cause, fingerprint="f1"))
    assert state.generation == 1
    assert state.is_valid(entry)


@pytest.mark.parametrize("cause", [Cause.DATA_DRIFT, Cause.MANUAL, Cause.ERASURE])
def test_every_other_cause_withdraws_what_it_selects(state, record, cause):
    state.apply(record(1, cause, fingerprint="f1"))
    assert not state.is_valid(make_entry())
    assert state.is_valid(make_entry(fingerprint="f2"))


def test_a_push_that_cannot_say_whose_answers_it_ends_withdraws_all(state, record):
    state.apply(record(1, Cause.MODEL_PUSHED))
    assert not state.is_valid(make_entry())


def test_a_rollback_does_not_revive_what_was_withdrawn_meanwhile(state, record):
    state.apply(record(1, Cause.MODEL_PUSHED, fingerprint="f1"))
    state.apply(record(2, Cause.DATA_DRIFT))
    state.apply(record(3, Cause.ROLLED_BACK, fingerprint="f2"))
    assert not state.is_valid(make_entry())


@pytest.mark.parametrize("cause", list(Cause))
def test_only_an_erasure_asks_for_the_bytes(record, cause):
    assert needs_erasure(record(1, cause)) is (cause is Cause.ERASURE)
    assert kills(record(1, cause))


# --- generations ---------------------------------------------------------------------------------


def test_what_is_computed_after_a_record_is_not_touched_by_it(state, record):
    state.apply(record(1))
    assert not state.is_valid(make_entry(generation=0))
    assert state.is_valid(make_entry(generation=1))


def test_nothing_is_valid_before_the_ledger_has_been_read(clock, record):
    state = InvalidationState("taxi", 60.0, clock)
    state.apply(record(1, Cause.MODEL_PUSHED, fingerprint="f0"))
    assert state.generation is None
    assert not state.is_current()
    assert not state.is_valid(make_entry())
    state.confirm(clock())
    assert state.generation == 1
    assert state.is_valid(make_entry())


def test_nothing_is_valid_after_a_reset(state):
    assert state.is_valid(make_entry())
    state.reset()
    assert not state.is_valid(make_entry())


def test_an_entry_of_a_generation_the_ledger_has_not_reached_is_not_valid(state, record):
    state.apply(record(1, Cause.MODEL_PUSHED, fingerprint="f0"))
    assert not state.is_valid(make_entry(generation=2))


@pytest.mark.parametrize("sequence", [0, 1, 3])
def test_records_out_of_order_are_refused(state, record, sequence):
    state.apply(record(1))
    with pytest.raises(LedgerError, match="after sequence 1"):
        state.apply(record(sequence))
    assert state.generation == 1


def test_a_record_of_another_model_is_refused(state, record):
    with pytest.raises(LedgerError, match="not of the model 'taxi'"):
        state.apply(record(1, model="bank"))


def test_a_record_that_came_before_its_turn_withdraws_at_once(state, record):
    state.withdraw_ahead(record(3, slice_of={"payment": "Cash"}))
    assert state.generation == 0
    assert not state.is_valid(make_entry())
    assert state.is_valid(make_entry(features={"payment": "Card"}))
    for sequence in (1, 2):
        state.apply(record(sequence, Cause.MODEL_PUSHED, fingerprint="f0"))
    assert not state.is_valid(make_entry(generation=2))
    state.apply(record(3, slice_of={"payment": "Cash"}))
    assert state.is_valid(make_entry(generation=3))


def test_a_state_grows_old_beyond_its_bound(state, clock):
    clock.now += 60.0
    assert state.is_current()
    clock.now += 0.1
    assert not state.is_current()
    assert state.seconds_since_last_read() == pytest.approx(60.1)
    state.confirm(clock())
    assert state.is_current()


def test_a_late_confirmation_does_not_make_the_state_look_older(state, clock):
    state.confirm(clock() - 30.0)
    assert state.seconds_since_last_read() == 0.0


def test_a_model_without_a_ledger_is_always_current(clock):
    state = InvalidationState("taxi", None, clock)
    clock.now += 1e9
    assert state.is_current()
    assert state.generation == 0
    assert state.seconds_since_last_read() is None


def test_a_stamped_entry_is_valid_and_need_not_be_judged_again(state, record):
    state.apply(record(1, slice_of={"payment": "Card"}))
    entry = make_entry()
    assert state.is_valid(entry)
    assert state.stamped(entry).generation == 1
    state.apply(record(2, slice_of={"payment": "Cash"}))
    assert not state.is_valid(state.stamped(entry)._replace(generation=1))


def test_no_entry_is_stamped_while_a_record_is_ahead_of_its_turn(state, record):
    state.withdraw_ahead(record(2, slice_of={"payment": "Card"}))
    assert state.stamped(make_entry()).generation == 0


# --- selectors -----------------------------------------------------------------------------------


def test_a_slice_covers_the_rows_whose_features_have_the_values(record):
    entry = make_entry(features={"payment": "Cash", "hour": 8})
    assert covers(record(1, slice_of={"payment": "Cash"}), entry)
    assert covers(record(1, slice_of={"payment": "Cash", "hour": "8"}), entry)
    assert not covers(record(1, slice_of={"payment": "Cash", "hour": "9"}), entry)
    assert not covers(record(1, slice_of={"payment": "cash"}), entry)


def test_a_slice_by_a_feature_that_the_row_leaves_out_may_cover_it(record):
    assert covers(record(1, slice_of={"company": "Blue"}), make_entry())
    assert not covers(record(1, slice_of={"company": "Blue", "hour": "9"}), make_entry())


@pytest.mark.parametrize("row", [b"", b"not a row", TRANSFORMED + encode_row({})])
def test_a_slice_may_cover_an_entry_whose_row_cannot_be_read(record, row):
    assert covers(record(1, slice_of={"payment": "Cash"}), make_entry(row=row))


def test_the_row_that_was_asked_about_decides_where_it_is_known(record):
    asked = encode_row({"payment": cell("Card")})
    assert not covers(record(1, slice_of={"payment": "Cash"}), make_entry(row=b""), asked)


def test_a_set_of_keys_covers_those_keys_and_whatever_is_kept_by_a_transformed_row(record):
    keys = record(1, keys=[b"k" * 32, b"l" * 32])
    assert covers(keys, make_entry())
    assert not covers(keys, make_entry(key=b"m" * 32))
    assert covers(keys, make_entry(key=b"m" * 32, row=TRANSFORMED + b"x"))


def test_keys_that_cannot_be_read_cover_everything(state, record):
    selector = SelectKeys(("xyz",))
    bad = InvalidationRecord("taxi", 1, Cause.MANUAL, selector, "r", "t", "me")
    assert covers(bad, make_entry())
    state.apply(bad)
    assert not state.is_valid(make_entry())


@pytest.mark.parametrize(
    ("value", "text", "holds"),
    [
        (8, "8", True),
        (8, "8.0", True),
        (8, "08", True),
        (8, "8.5", False),
        (8, "eight", False),
        (2**62 + 1, str(2**62 + 1), True),
        (2**62 + 1, str(2**62), False),
        (np.float32(8.1), "8.1", True),
        (8.1, "8.1", True),
        (0.0, "-0.0", True),
        (np.float32(np.inf), "1e300", True),
        (float("nan"), "nan", True),
        (float("nan"), "0", False),
        (1.0, "1" * 400, False),
        (True, "TRUE", True),
        (True, "1", True),
        (False, "false", True),
        (False, "no", False),
        ("8", "8.0", False),
        ("Café", "Café", True),
        (["a", "b"], "b", True),
        ([1, 2], "2", True),
        (np.array([], dtype=np.int64), "2", False),
        (np.array([], dtype=object), "", False),
        ([""], "", True),
        (b"\xff", "\udcff", False),
    ],
)
def test_values_are_compared_as_the_text_of_the_raw_feature(value, text, holds):
    assert holds_value(cell(value), text) is holds


# --- bounds --------------------------------------------------------------------------------------


def test_too_many_slices_withdraw_more_but_never_less(state, record, monkeypatch):
    monkeypatch.setattr(invalidation, "MAX_SLICES", 4)
    for sequence in range(1, 12):
        state.apply(record(sequence, slice_of={"hour": str(sequence)}))
        for hour in range(1, sequence + 1):
            assert not state.is_valid(make_entry(features={"hour": hour}))
        assert state.is_valid(make_entry(features={"hour": 1}, generation=sequence))
    assert not state.is_valid(make_entry(features={"hour": 99}))
    assert state.is_valid(make_entry(features={"hour": 99}, generation=10))


FEATURES = st.fixed_dictionaries({"payment": st.sampled_from("xyz"), "hour": st.integers(0, 2)})
SELECTORS = st.one_of(
    st.just(SelectAll()),
    st.sampled_from(["f1", "f2"]).map(SelectFingerprint),
    st.sampled_from("xyz").map(lambda v: SelectSlice({"payment": v})),
    st.integers(0, 2).map(lambda v: SelectSlice({"hour": str(v)})),
    st.sets(st.integers(0, 3)).map(lambda s: SelectKeys(tuple(bytes([n] * 32).hex() for n in s))),
)
ENTRIES = st.builds(
    make_entry,
    features=FEATURES,
    fingerprint=st.sampled_from(["f1", "f2"]),
    key=st.integers(0, 3).map(lambda n: bytes([n] * 32)),
    generation=st.integers(0, 8),
)


@given(
    st.lists(st.tuples(st.sampled_from(list(Cause)), SELECTORS), max_size=8),
    st.lists(ENTRIES, min_size=1, max_size=8),
    st.sets(st.integers(0, 7)),
)
def test_an_entry_is_valid_if_and_only_if_no_newer_record_kills_it(drafts, entries, early):
    state = InvalidationState("taxi", 60.0, lambda: 0.0)
    state.confirm(0.0)
    records = [
        InvalidationRecord("taxi", n, cause, selector, "r", "t", "me")
        for n, (cause, selector) in enumerate(drafts, 1)
    ]
    for place in early & set(range(len(records))):
        state.withdraw_ahead(records[place])
    for record in records:
        state.apply(record)
    for entry in entries:
        killed = any(
            record.sequence > entry.generation and kills(record) and covers(record, entry)
            for record in records
        )
        ahead = entry.generation > len(records)
        assert state.is_valid(entry) is not (killed or ahead)
        if state.is_valid(entry):
            assert state.is_valid(state.stamped(entry))
