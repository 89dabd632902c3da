"""Which versions under a base path are wanted: file_system_storage_path_source_test.cc's cases."""

from __future__ import annotations

import pytest

from tfx_encore.gateway.models.version_policy import VersionPolicy, find_versions, version_number

FOUND = {1: "1", 2: "002", 5: "5", 42: "42"}


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("7", 7),
        ("0007", 7),
        ("0", 0),
        ("20170111173521944", 20170111173521944),
        ("+7", 7),
        ("-7", -7),
        (" 7 ", 7),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("7.evidence", None),
        ("7a", None),
        ("", None),
        ("1_000", None),
        ("\u0667", None),
        ("labels.json", None),
        (".staging", None),
    ],
)
def test_a_name_is_a_version_where_absl_reads_a_number(name: str, version: int | None) -> None:
    assert version_number(name) == version


def test_the_newest_one_is_wanted_unless_something_else_is_said() -> None:
    assert VersionPolicy().wanted(FOUND) == {42: "42"}
    assert VersionPolicy(num_versions=0).wanted(FOUND) == {42: "42"}


def test_the_newest_ones_are_wanted_with_the_names_of_their_directories() -> None:
    assert VersionPolicy(num_versions=3).wanted(FOUND) == {2: "002", 5: "5", 42: "42"}
    assert VersionPolicy(num_versions=9).wanted(FOUND) == FOUND


def test_all_are_wanted() -> None:
    assert VersionPolicy(kind="all").wanted(FOUND) == FOUND


def test_those_that_are_listed_are_wanted_and_those_that_are_not_there_are_named() -> None:
    policy = VersionPolicy(kind="specific", versions=(7, 2, 1, 9))
    assert policy.wanted(FOUND) == {1: "1", 2: "002"}
    assert policy.missing(FOUND) == (7, 9)
    assert VersionPolicy(kind="specific").wanted(FOUND) == {}
    assert VersionPolicy().missing({}) == ()


def test_of_two_names_for_a_version_the_last_in_order_counts_and_the_other_is_named() -> None:
    found = find_versions(["9", "1", "0009", "junk", "009"])
    assert found.versions == {1: "1", 9: "9"}
    assert found.ignored == ("0009", "009")
