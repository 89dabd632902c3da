"""Snapshots that nights make are found by the fingerprint, newest first, and replaced at once."""

from __future__ import annotations

import pytest

from tfx_encore.metadata.files import Disk
from tfx_encore.metadata.night_snapshots import NightSnapshots, snapshots_of
from tfx_encore.schemas.errors import DataError

FINGERPRINT = "sha256:" + "ab" * 32


@pytest.fixture
def store(tmp_path):
    return NightSnapshots(tmp_path, "taxi", FINGERPRINT)


def commit(store, date, content="{}"):
    with store.staging() as staged:
        (staged / "snapshot.json").write_text(content)
        return store.commit(date, staged)


def test_before_the_first_there_is_none(store, tmp_path):
    assert store.newest() is None
    assert snapshots_of(tmp_path, "taxi", 1, FINGERPRINT) == ()


def test_the_newest_comes_first_and_the_releases_own_last(store, tmp_path):
    released = tmp_path / "taxi" / "3.evidence" / "snapshot"
    released.mkdir(parents=True)
    (released / "snapshot.json").write_text("{}")
    made = commit(store, "2016-01-12")
    assert snapshots_of(tmp_path, "taxi", 3, FINGERPRINT) == (made, released)
    assert snapshots_of(tmp_path, "taxi", 3, "sha256:" + "cd" * 32) == (released,)


def test_a_night_warmed_again_has_a_new_snapshot_and_old_ones_go(store):
    names = [commit(store, "2016-01-12").name for _ in range(4)]
    assert names == [f"2016-01-12-{number}" for number in (1, 2, 3, 4)]
    assert store.newest().name == "2016-01-12-4"
    kept = sorted(path.name for path in store.home.iterdir() if path.is_dir())
    assert kept == ["2016-01-12-3", "2016-01-12-4"]


def test_a_backfilled_older_night_is_the_newest_snapshot_all_the_same(store):
    commit(store, "2016-02-01")
    assert commit(store, "2016-01-12") == store.newest()


def test_a_crash_leaves_the_old_snapshot_or_the_new_one(store, tmp_path):
    class PowerCutError(Exception):
        pass

    old = commit(store, "2016-01-11")
    steps = 0

    def count(_step, _path):
        nonlocal steps
        steps += 1

    counting = NightSnapshots(tmp_path, "taxi", FINGERPRINT, disk=Disk(before=count))
    commit(counting, "2016-01-12")
    for fatal in range(1, steps + 1):
        before = store.newest()
        left = fatal

        def cut(_step, _path):
            nonlocal left
            left -= 1
            if left == 0:
                raise PowerCutError

        dying = NightSnapshots(tmp_path, "taxi", FINGERPRINT, disk=Disk(before=cut))
        with pytest.raises(PowerCutError):
            commit(dying, "2016-01-13")
        found = store.newest()
        assert found == before or found.name.startswith("2016-01-13")
        assert (found / "snapshot.json").is_file()
    assert old != store.newest()


def test_what_is_no_snapshot_is_not_committed(store):
    with store.staging() as staged, pytest.raises(DataError, match="no snapshot"):
        store.commit("2016-01-12", staged)
    with pytest.raises(DataError, match="is no date"):
        commit(store, "yesterday")
    assert store.newest() is None


@pytest.mark.parametrize("pointer", ["", "{}", '{"snapshot": "../../1"}', '{"snapshot": 3}'])
def test_a_damaged_pointer_names_no_snapshot(store, pointer):
    commit(store, "2016-01-12")
    (store.home / "newest.json").write_text(pointer)
    assert store.newest() is None


def test_a_night_is_measured_by_what_was_there_before_it(store, tmp_path):
    earlier, own = commit(store, "2016-01-11"), commit(store, "2016-01-12")
    assert snapshots_of(tmp_path, "taxi", 1, FINGERPRINT) == (own,)
    assert snapshots_of(tmp_path, "taxi", 1, FINGERPRINT, before="2016-01-12") == (earlier,)
    assert snapshots_of(tmp_path, "taxi", 1, FINGERPRINT, before="2016-01-11") == ()
