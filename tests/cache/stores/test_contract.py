"""What every store promises, local or remote."""

from __future__ import annotations

import pytest


def test_an_entry_comes_back_with_every_field_as_it_was(store, entry):
    put = entry(
        1, row=b"", answer=b"\x00\xff" * 50, kind="rejection", generation=2**40, expires_at=9e12
    )
    assert store.put(put) == 1
    assert store.get(put.key) == put


def test_a_key_that_was_never_put_is_not_there(store, entry):
    store.put(entry(1))
    assert store.get(entry(2).key) is None


def test_many_keys_come_back_in_their_order_with_none_for_the_missing(store, entry):
    store.put(entry(1), entry(3))
    found = store.get_many([entry(n).key for n in (3, 2, 1, 3)])
    assert found == [entry(3), None, entry(1), entry(3)]


def test_no_keys_are_no_entries(store):
    assert store.get_many([]) == []
    assert store.remove([]) == 0


def test_an_entry_of_the_same_key_replaces_the_one_before(store, entry):
    store.put(entry(1, answer=b"old", expires_at=9e9))
    store.put(entry(1, answer=b"new"))
    assert store.get(entry(1).key).answer == b"new"
    assert store.remove([entry(1).key]) == 1
    assert store.get(entry(1).key) is None


def test_removing_says_how_many_were_there(store, entry):
    store.put(*[entry(n) for n in range(5)])
    assert store.remove([entry(n).key for n in (1, 3, 9)]) == 2
    assert [n for n in range(5) if store.get(entry(n).key)] == [0, 2, 4]


def test_clearing_a_fingerprint_leaves_the_others(store, entry):
    store.put(*[entry(n, fingerprint=f"f{n % 2}") for n in range(6)])
    assert store.clear("f1") == 3
    assert [n for n in range(6) if store.get(entry(n).key)] == [0, 2, 4]


def test_clearing_everything_leaves_nothing(store, entry):
    store.put(*[entry(n, fingerprint=f"f{n}") for n in range(6)])
    assert store.clear() == 6
    assert all(store.get(entry(n).key) is None for n in range(6))


@pytest.mark.parametrize("fingerprint", ["", "ü☃", "f" * 300])
def test_any_text_is_a_fingerprint(store, entry, fingerprint):
    put = entry(1, fingerprint=fingerprint)
    store.put(put)
    assert store.get(put.key) == put


def test_keys_that_differ_in_one_bit_are_different(store, entry):
    keys = [bytes([bit]) + bytes(31) for bit in (0, 1, 2, 128)]
    store.put(*[entry(n, key=key) for n, key in enumerate(keys)])
    assert [store.get(key).row for key in keys] == [b"row %d" % n for n in range(4)]


def test_a_row_of_100_kilobytes_is_kept(store, entry, noise):
    put = entry(1, row=noise(100_000))
    assert store.put(put) == 1
    assert store.get(put.key) == put
