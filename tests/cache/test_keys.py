"""Row keys belong to a fingerprint, a signature, an output filter and a row."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.cache.keys import KEY_BYTES, KeyMaker, row_key

CONTEXTS = st.tuples(st.text(max_size=8), st.text(max_size=8), st.sets(st.text(max_size=4)))


def context(fingerprint, signature, outputs):
    return fingerprint, signature, tuple(sorted(outputs))


@given(CONTEXTS, CONTEXTS, st.binary(max_size=30), st.binary(max_size=30))
def test_keys_are_equal_exactly_if_all_that_goes_in_is(one, two, row, other):
    first = KeyMaker(*one).key(row)
    assert len(first) == KEY_BYTES
    assert (first == KeyMaker(*two).key(row)) == (context(*one) == context(*two))
    assert (first == KeyMaker(*one).key(other)) == (row == other)


def test_parts_do_not_run_into_each_other():
    assert row_key("ab", "c", b"") != row_key("a", "bc", b"")
    assert row_key("a", "b", b"c") != row_key("a", "bc", b"")
    assert row_key("a", "b", b"", ["c", "d"]) != row_key("a", "b", b"", ["cd"])


def test_an_output_filter_is_a_set():
    assert row_key("a", "b", b"r", ["x", "y", "x"]) == row_key("a", "b", b"r", ["y", "x"])


def test_a_key_is_the_same_in_another_process():
    code = "from tfx_encore.cache.keys import row_key; print(row_key('f', 's', b'row').hex())"
    run = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": "7"},
    )
    assert run.stdout.strip() == row_key("f", "s", b"row").hex()


def test_a_key_stays_what_it_is_over_releases_of_this_package():
    assert row_key("f", "s", b"row").hex() == KNOWN


KNOWN = "9b66efaefb3874891d0950f7f6a9dfaf387b13c1fe12e620eff8cb148f8d575c"
