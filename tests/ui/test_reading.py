"""Nights are parsed once a revision, and what is damaged says so."""

from tfx_encore.metadata.night_store import RECORD, NightStore
from tfx_encore.pipeline.ui.found import Damaged
from tfx_encore.pipeline.ui.reading import NightReader


class CountingStore(NightStore):
    def __init__(self, root, model):
        super().__init__(root, model)
        self.parsed = []

    def record(self, date):
        self.parsed.append(date)
        return super().record(date)


def test_a_night_is_parsed_again_only_when_it_has_changed(tmp_path, write_night, make_night):
    for number in range(3):
        write_night(tmp_path, make_night(number))
    store = CountingStore(tmp_path, "taxi")
    reader = NightReader(store)
    first = reader.between("2016-01-01", "2016-01-31")
    assert reader.between("2016-01-01", "2016-01-31") == first
    assert store.parsed == ["2016-01-01", "2016-01-02", "2016-01-03"]
    write_night(tmp_path, make_night(1, reason="labels came"))
    assert reader.night("2016-01-02").reason == "labels came"
    assert len(store.parsed) == 4


def test_a_night_made_anew_under_the_same_revision_is_read_anew(tmp_path, write_night, make_night):
    write_night(tmp_path, make_night(0))
    reader = NightReader(NightStore(tmp_path, "taxi"))
    assert reader.night("2016-01-01").reason
    store = NightStore(tmp_path, "taxi")
    with store.writing():
        store.remove("2016-01-01")
    assert reader.night("2016-01-01") is None
    write_night(tmp_path, make_night(0, reason="again"))
    assert reader.night("2016-01-01").reason == "again"


def test_a_damaged_night_is_shown_as_such_beside_the_others(tmp_path, write_night, make_night):
    for number in range(3):
        write_night(tmp_path, make_night(number))
    store = NightStore(tmp_path, "taxi")
    cut = store.path("2016-01-01", RECORD)
    cut.chmod(0o600)
    cut.write_bytes(cut.read_bytes()[:100])
    (store.home / "2016-01-02" / "head.json").write_text("{")
    found = NightReader(store).between("2016-01-01", "2016-01-03")
    assert [isinstance(night, Damaged) for night in found] == [True, True, False]
    assert "encore nightly --date 2016-01-01" in found[0].message
    assert found[1].message


def test_a_name_that_is_no_night_reaches_no_file(tmp_path, write_night, make_night):
    write_night(tmp_path, make_night(0))
    reader = NightReader(NightStore(tmp_path, "taxi"))
    for name in ("..", "../../taxi", "2016-01-01/1", "", "2016-01-01\0", "."):
        assert reader.night(name) is None


def test_a_workspace_in_which_nothing_was_done_is_empty_and_stays_so(empty_place):
    reader = empty_place.reader()
    assert reader.nights.dates() == ()
    assert reader.nights.newest() is None
    assert reader.releases().found == ()
    assert reader.records(ask_mlmd=True).found == ()
    assert not (empty_place.file.parent / ".encore").exists()


def test_a_damaged_manifest_takes_away_one_release_only(place, tmp_path):
    import shutil

    from tfx_encore.pipeline.commands.options import open_project
    from tfx_encore.pipeline.ui.reading import Reader

    copy = tmp_path / "project"
    shutil.copytree(place.file.parent, copy)
    manifest = copy / ".encore/releases/taxi/1.evidence/manifest.json"
    manifest.chmod(0o600)
    manifest.write_text("{")
    found = Reader(open_project(str(copy / "encore.yaml"))).releases().found
    assert [bool(release.problem) for release in found] == [False, True]


def test_acknowledgements_of_both_ledgers_are_shown_once(place):
    records = place.reader().records()
    assert len(records.found) == 3
    assert len(records.acknowledgements) == 5
    assert records.problems == ()
