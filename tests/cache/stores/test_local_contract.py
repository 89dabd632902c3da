"""What the stores in this process or on this host promise besides."""

from __future__ import annotations

from tfx_encore.cache.entry import LocalStore


def test_it_keeps_the_port(local):
    assert isinstance(local, LocalStore)


def test_its_length_counts_each_key_once(local, entry):
    for number in (1, 2, 1, 3):
        local.put(entry(number))
    assert len(local) == 3
    local.remove([entry(2).key, entry(7).key])
    assert len(local) == 2


def test_it_never_holds_more_bytes_than_its_budget(local, entry, noise, budget):
    for number in range(12_000):
        local.put(entry(number, row=noise(900)))
        if number % 250 == 0 and hasattr(local, "flush"):
            local.flush()
        assert local.bytes_used <= budget
    if hasattr(local, "flush"):
        local.flush()
    assert 1000 < len(local) < 12_000
    assert local.evictions == 12_000 - len(local)


def test_an_entry_that_can_never_fit_is_refused_and_pushes_nothing_out(local, entry, budget):
    local.put(entry(1))
    assert local.put(entry(2, row=bytes(budget))) is False
    assert local.get(entry(2).key) is None
    assert local.get(entry(1).key) == entry(1)


def test_a_refused_entry_does_not_leave_the_one_it_was_to_replace(local, entry, budget):
    local.put(entry(1))
    local.put(entry(1, row=bytes(budget)))
    assert local.get(entry(1).key) is None


def test_erasing_removes_exactly_what_is_covered(local, entry):
    for number in range(10):
        local.put(entry(number))
    assert local.erase(lambda item: item.row in {b"row 3", b"row 7"}) == 2
    assert [n for n in range(10) if local.get(entry(n).key) is None] == [3, 7]
    local.put(entry(3))
    assert local.get(entry(3).key) == entry(3)


def test_an_empty_store_takes_next_to_no_bytes(local, entry):
    empty = local.bytes_used
    for number in range(100):
        local.put(entry(number))
    local.clear()
    assert local.bytes_used == empty <= 16_384
