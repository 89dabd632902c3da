"""What `make nightly` promises: thirty nights, both faults found on the days the docs say."""

import json
import subprocess
import sys

import pytest

from tfx_encore.pipeline.taxi import nights, traffic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

COMPANY = "slice:company=Taxi Affiliation Services"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("nightly")
    assert nights.main([str(made)]) == 0
    return made


@pytest.fixture(scope="module")
def records(folder):
    command = [sys.executable, "-m", "tfx_encore.pipeline.cli", "nights", "--json"]
    said = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return {record["date"]: record for record in json.loads(said.stdout)}


def alarms(record, gate):
    return {alarm["subject"]: alarm for alarm in record["alarms"] if alarm["gate"] == gate}


def test_every_day_has_its_night(records):
    days = [traffic.day_of(number) for number in range(1, traffic.DAYS + 1)]
    assert sorted(records) == days


def test_the_renamed_payment_type_is_found_on_its_day_and_only_then(records):
    blocked = {
        date
        for date, record in records.items()
        for alarm in record["alarms"]
        if (alarm["gate"], alarm["subject"]) == ("drift", "feature:payment_type")
        and alarm["outcome"] == "BLOCK"
    }
    assert blocked == {traffic.day_of(traffic.RENAMED_ON)}


def test_the_slow_decay_is_found_in_the_one_company_before_any_single_night_shows_it(records):
    trend = {date: alarms(record, "trend") for date, record in records.items()}
    found = [date for date in records if COMPANY in trend[date]]
    shown = [date for date in records if COMPANY in alarms(records[date], "slices")]
    assert found == [traffic.day_of(number) for number in range(20, 31)]
    assert shown[0] > found[0]
    onset = trend[found[-1]][COMPANY]["onset"]
    assert traffic.day_of(7) <= onset <= traffic.day_of(13)


def test_quiet_nights_are_ok(records):
    quiet = [records[traffic.day_of(number)]["outcome"] for number in range(1, 12)]
    assert quiet == ["OK"] * 11


def test_labels_that_came_a_day_late_were_used(records):
    before_last = records[traffic.day_of(29)]
    assert before_last["log"]["labelled"] == before_last["log"]["rows"]
    assert before_last["revision"] > 1


def test_a_night_without_labels_yet_is_estimated(records):
    last = records[traffic.day_of(30)]
    assert last["log"]["labelled"] == 0
    assert [e for e in last["estimates"] if e["slice"] == "overall" and e["metric"] == "accuracy"]


def test_running_it_again_changes_nothing(folder, records):
    store = folder / "releases" / "taxi" / "nights"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*.json")}
    assert nights.main([str(folder)]) == 0
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*.json")} == before
