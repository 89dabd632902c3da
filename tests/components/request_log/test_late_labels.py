"""Labels that come later find their rows, whatever they are written in."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tfx_encore.schemas import nights
from tfx_encore.schemas.errors import ConfigError, DataError
from tfx_encore.schemas.nightly_policy import NightlyPolicy


def joined(*columns: str) -> NightlyPolicy:
    return NightlyPolicy(labels={"files": "labels/*", "join": columns or ("request_id",)})


@pytest.fixture
def log(logs, tmp_path: Path):
    """Four requests named order-0 to order-3 of fare 0.5 to 3.5; the last has two rows."""
    records = []
    for number in range(4):
        examples = [logs.example_of(fare=number + 0.5, hour=number, company=b"7")]
        examples += [logs.example_of(fare=9.0)] if number == 3 else []
        record = logs.predict_examples(examples, [0.5] * len(examples), seconds=logs.NOON + number)
        record.log_metadata.saved_model_tags.append(f"encore.request_id=order-{number}")
        records.append(record)
    return logs.write_log(tmp_path / "day/a.tfrecord", records)


def labels_of(made) -> dict[tuple[bytes, int], float]:
    return {
        (row[nights.REQUEST_ID], row[nights.ROW]): row[nights.LABEL]
        for row in made.rows
        if nights.LABEL in row
    }


def test_labels_find_their_request(log, night, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("request_id,label\norder-0,1\norder-3,0\nnobody,1\n")
    made = night([log], labels=[file], policy=joined())
    assert labels_of(made) == {(b"order-0", 0): 1.0, (b"order-3", 0): 0.0}
    report = made.report
    assert (report.labels_read, report.labelled, report.labels_unmatched) == (3, 2, 1)


def test_labels_find_their_row(log, night, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("row,label,note,request_id\n1,1,x,order-3\n,0,y,order-2\n2,1,z,order-3\n")
    made = night([log], labels=[file], policy=joined())
    assert labels_of(made) == {(b"order-3", 1): 1.0, (b"order-2", 0): 0.0}
    assert made.report.labels_unmatched == 1


def test_a_later_label_takes_the_place_of_an_earlier_one(log, night, tmp_path):
    first, second = tmp_path / "1.csv", tmp_path / "2.csv.gz"
    first.write_text("request_id,label\norder-0,1\norder-0,0\norder-1,1\n")
    second.write_bytes(gzip.compress(b"request_id,label\norder-1,0.0\n"))
    made = night([log], labels=[first, second], policy=joined())
    assert labels_of(made) == {(b"order-0", 0): 0.0, (b"order-1", 0): 0.0}
    assert (made.report.labels_read, made.report.labels_repeated) == (4, 2)
    made = night([log], labels=[second, first], policy=joined())
    assert labels_of(made)[b"order-1", 0] == 1.0


def test_bad_labels_are_counted_and_named(log, night, tmp_path):
    file = tmp_path / "day" / "labels.csv"
    file.write_text(
        "request_id,row,label\norder-0,0,yes\norder-0,x,1\norder-1,0\n,0,1\norder-2,0,\n"
    )
    report = night([log], labels=[file], policy=joined()).report
    assert (report.labels_read, report.labelled, report.labels_bad) == (0, 0, 4)
    assert report.bad_labels == (
        "day/labels.csv:2: label 'yes' is neither 0 nor 1",
        "day/labels.csv:3: row 'x' is not a number from 0 on",
        "day/labels.csv:4: 2 columns, not 3",
        "day/labels.csv:5: no request_id",
    )


def test_labels_find_every_row_with_their_features(logs, log, night, tmp_path):
    again = logs.predict_examples([logs.example_of(fare=1.5, hour=1)], [0.5])
    more = logs.write_log(tmp_path / "day/b.tfrecord", [again])
    file = tmp_path / "labels.csv"
    file.write_text("hour,fare,label\n1,1.50,1\n02,2.5,0\n,9,1\n")
    made = night([log, more], labels=[file], policy=joined("fare", "hour"))
    assert labels_of(made) == {
        (b"order-1", 0): 1.0,
        (b"day/b.tfrecord#000000", 0): 1.0,
        (b"order-2", 0): 0.0,
        (b"order-3", 1): 1.0,
    }
    assert made.report.labels_unmatched == 0


@pytest.mark.slow
def test_text_of_digits_is_not_a_number_where_the_schema_says_text(log, night, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("company,label\n07,1\n")
    assert night([log], labels=[file], policy=joined("company")).report.labelled == 0
    file.write_text("company,label\n7,1\n")
    assert night([log], labels=[file], policy=joined("company")).report.labelled == 4


@pytest.mark.slow
def test_labels_may_be_joined_by_a_feature_that_the_model_does_not_read(logs, night, tmp_path):
    records = [logs.predict_examples([logs.example_of(fare=1.0, trip=b"t-1")], [0.5])]
    file = logs.write_log(tmp_path / "day/a.tfrecord", records)
    labels = tmp_path / "labels.csv"
    labels.write_text("trip,label\nt-1,1\n")
    made = night([file], labels=[labels], policy=joined("trip"))
    assert made.report.labelled == 1


def test_labels_come_as_examples_too(logs, log, night, tmp_path):
    labels = [
        logs.example_of(request_id=b"order-0", label=1),
        logs.example_of(request_id=b"order-3", row=1, label=0.0),
        logs.example_of(request_id=b"order-1", label=b"1"),
        logs.example_of(request_id=b"order-2", label=3),
        b"\xff",
    ]
    file = logs.write_log(tmp_path / "day/labels.tfrecord", labels)
    made = night([log], labels=[file], policy=joined())
    expected = {(b"order-0", 0): 1.0, (b"order-3", 1): 0.0, (b"order-1", 0): 1.0}
    assert labels_of(made) == expected
    assert made.report.labels_bad == 2
    assert made.report.bad_labels[1] == "day/labels.tfrecord:4: not a tf.Example"


def test_a_file_without_the_columns_is_refused_by_name(log, night, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("id,truth\norder-0,1\n")
    with pytest.raises(DataError, match=r"no column label, request_id; it has id, truth"):
        night([log], labels=[file], policy=joined())


def test_label_files_need_a_policy(log, night, tmp_path):
    with pytest.raises(ConfigError, match="how they are joined"):
        night([log], labels=[tmp_path / "labels.csv"])
