"""What is tried again when several write to one store, and what is said when it is not."""

from __future__ import annotations

import pytest
from ml_metadata import errors

from tfx_encore.metadata.mlmd_contention import until_done
from tfx_encore.metadata.mlmd_errors import raise_mapped, reason_of
from tfx_encore.schemas.errors import LedgerError, LedgerUnavailableError

# As MariaDB says it to ml_metadata, from 11.6.2 on.
CHANGED = errors.InternalError(
    "mysql_query  SELECT A.id\n FROM `Artifact` AS A WHERE A.id IN (4, 3, 1) LOCK IN SHARE MODE; "
    "returned an unexpected NULL result_set: errno: Record has changed since last read in table "
    "'Artifact'; try restarting transaction, error: Record has changed since last read in table "
    "'Artifact'; try restarting transaction"
)
GONE = errors.InternalError("mysql_query failed: errno: 2013, error: Lost connection to server")


def attempt_that_meets(*found: object):
    """An attempt that raises or returns one of `found` after another."""
    left = list(found)

    def attempt():
        each = left.pop(0)
        if isinstance(each, Exception):
            raise_mapped(each, "MySQL ada@db/mlmd")
        return each

    return attempt


def test_what_another_transaction_undid_is_done_again():
    assert until_done(attempt_that_meets(CHANGED, CHANGED, "done")) == "done"


def test_a_race_that_was_lost_is_run_again():
    assert until_done(attempt_that_meets(None, None, False)) is False


def test_a_server_that_is_gone_is_not_waited_for():
    with pytest.raises(LedgerUnavailableError, match=r"reached now: Lost connection to server;"):
        until_done(attempt_that_meets(GONE, "never asked for"))


def test_a_store_that_stays_busy_is_unavailable_in_the_end():
    with pytest.raises(LedgerUnavailableError, match="Record has changed"):
        until_done(attempt_that_meets(CHANGED, CHANGED), seconds=0)


def test_a_race_that_is_always_lost_is_told_of():
    with pytest.raises(LedgerError, match="somebody else was first"):
        until_done(attempt_that_meets(None, None), seconds=0, lost="somebody else was first")


def test_a_reason_is_given_without_the_query():
    wanted = "Record has changed since last read in table 'Artifact'; try restarting transaction"
    assert reason_of(CHANGED) == wanted
    assert reason_of(errors.NotFoundError("no type named T\nin a store")) == "no type named T"
