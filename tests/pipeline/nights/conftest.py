"""Days of traffic, written as the gateway and as TensorFlow Serving log them."""

from __future__ import annotations

import csv
import datetime as dt
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

_FLOATS = ("fare", "trip_miles", "pickup_latitude", "pickup_longitude", "dropoff_latitude")
_INTEGERS = ("trip_start_hour", "trip_start_day", "trip_start_month", "pickup_community_area")
_TEXTS = ("payment_type", "company")

Trip = dict[str, str]


def read_trips(folder: Path, span: int = 2) -> list[Trip]:
    """The rows of a span of the taxi example."""
    (file,) = (folder / ".encore" / "data" / f"span-{span}").glob("*.csv")
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def label_of(trip: Trip) -> int:
    """Whether the tip was more than a fifth of the fare."""
    return int(float(trip["tips"] or 0) > 0.2 * float(trip["fare"] or 0))


def example_of(trip: Trip) -> bytes:
    """What the model is asked: a serialized tf.Example without the tip."""
    import tensorflow as tf

    example = tf.train.Example()
    for name in _FLOATS:
        if trip.get(name):
            example.features.feature[name].float_list.value.append(float(trip[name]))
    for name in _INTEGERS:
        if trip.get(name):
            example.features.feature[name].int64_list.value.append(int(float(trip[name])))
    for name in _TEXTS:
        if trip.get(name):
            example.features.feature[name].bytes_list.value.append(trip[name].encode())
    return bytes(example.SerializeToString(deterministic=True))


@dataclass
class Day:
    """One day of traffic, one row a request.

    Attributes:
        date: the day.
        trips: the rows.
        scores: what was answered.
        paths: `hit` or `miss` of each; all `miss` if not given.
    """

    date: str
    trips: Sequence[Trip]
    scores: Sequence[float]
    paths: Sequence[str] = field(default_factory=tuple)

    def request_id(self, number: int) -> str:
        return f"{self.date}/{number}"


def write_log(
    folder: Path, day: Day, *, fingerprint: str = "", version: int = 1, plain: bool = False
) -> Path:
    """Writes a day's log: with the gateway's tags, or as TensorFlow Serving writes it."""
    import tensorflow as tf

    file = folder / "taxi" / day.date / "000000-host-1-0.tfrecord"
    file.parent.mkdir(parents=True, exist_ok=True)
    midnight = dt.datetime.fromisoformat(day.date).replace(tzinfo=dt.timezone.utc).timestamp()
    with tf.io.TFRecordWriter(str(file)) as writer:
        for number, trip in enumerate(day.trips):
            at = midnight + 86_000 * number / len(day.trips)
            path = day.paths[number] if day.paths else "miss"
            tags = {
                "log": "1",
                "cache": path,
                "time_us": str(int(at * 1e6)),
                "code": "0",
                "fingerprint": fingerprint,
                "request_id": day.request_id(number),
                "us": "150" if path == "hit" else "900",
            }
            record = prediction_log(trip, day.scores[number], at, version, {} if plain else tags)
            writer.write(record)
    return file


def prediction_log(
    trip: Trip, score: float, at: float, version: int, tags: dict[str, str]
) -> bytes:
    """One request and its answer."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    request, response = log.predict_log.request, log.predict_log.response
    request.model_spec.name = "taxi"
    request.model_spec.signature_name = "serving_default"
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto([example_of(trip)]))
    response.model_spec.name, response.model_spec.version.value = "taxi", version
    response.outputs["probability"].CopyFrom(tf.make_tensor_proto([[score]], dtype=tf.float32))
    metadata = log.log_metadata
    metadata.model_spec.CopyFrom(response.model_spec)
    metadata.model_spec.signature_name = "serving_default"
    metadata.sampling_config.sampling_rate = 1.0
    metadata.timestamp_secs = int(at)
    metadata.saved_model_tags.append("serve")
    metadata.saved_model_tags.extend(f"encore.{name}={value}" for name, value in tags.items())
    return bytes(log.SerializeToString())


def write_labels(
    folder: Path, day: Day, flip: Callable[[int, Trip], bool] = lambda number, trip: False
) -> Path:
    """Writes the truth of a day by request id; `flip` says whose label is turned round."""
    file = folder / f"{day.date}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["request_id", "label"])
        for number, trip in enumerate(day.trips):
            writer.writerow([day.request_id(number), label_of(trip) ^ int(flip(number, trip))])
    return file


def days(first: str, count: int, trips: Sequence[Trip], rows: int, seed: int = 1) -> list[Day]:
    """Days whose rows are drawn from `trips`; their scores are not there yet."""
    draw = random.Random(seed)
    start = dt.date.fromisoformat(first)
    return [
        Day((start + dt.timedelta(days=n)).isoformat(), draw.sample(list(trips), rows), ())
        for n in range(count)
    ]


class Model:
    """A released version, asked as a server would ask it."""

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf

        self._loaded = tf.saved_model.load(str(folder))

    def scores(self, trips: Sequence[Trip]) -> list[float]:
        import tensorflow as tf

        ask = self._loaded.signatures["serving_default"]
        examples = tf.constant([example_of(trip) for trip in trips])
        return [float(p) for p in ask(examples=examples)["probability"].numpy().ravel()]


@dataclass(frozen=True)
class Evaluated:
    """A released project after three nights, and what the command said. Do not change the folder.

    The first two days come from the gateway, the third from TensorFlow Serving's own log. On the
    second, answers to one payment type come wrong from the cache.
    """

    folder: Path
    days: tuple[str, ...]
    said: Any


@pytest.fixture(scope="session")
def traffic() -> Any:
    """This file: the functions that write days of traffic."""
    return sys.modules[__name__]


def copy_project(released: Any, folder: Path) -> Path:
    """The released project with `nightly` configured, without traffic yet."""
    released.copy_to(folder)
    file = folder / "encore.yaml"
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    config["nightly"] = {
        "labels": {"files": "labels/{DATE}.csv"},
        "retention": {"log_days": 0},
    }
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "labels").mkdir()
    return folder


def write_days(folder: Path, first: str, count: int, rows: int) -> list[Day]:
    """Days of traffic that version 2 answered, labels a day late; returns them."""
    home = folder / ".encore" / "releases" / "taxi"
    manifest = json.loads((home / "2.evidence" / "manifest.json").read_text())
    model = Model(home / "2")
    made = days(first, count, read_trips(folder), rows)
    for day in made:
        day.scores = model.scores(day.trips)
        day.paths = ["hit" if number % 3 else "miss" for number in range(rows)]
        write_log(log_folder(folder), day, fingerprint=manifest["fingerprint"], version=2)
        write_labels(folder / "labels", day)
    return made


def log_folder(folder: Path) -> Path:
    """Where the project looks for its request log."""
    return folder / ".encore" / "requests"


def make_wrong(day: Day, payment_type: str = "Cash") -> None:
    """Turns the answers round that the cache gave to one payment type."""
    day.scores = [
        1 - score if path == "hit" and trip["payment_type"] == payment_type else score
        for score, path, trip in zip(day.scores, day.paths, day.trips, strict=True)
    ]


@pytest.fixture(scope="session")
def evaluated(released: Any, encore: Any, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Three nights, evaluated by `encore nightly` in one run."""
    folder = copy_project(released, tmp_path_factory.mktemp("nights") / "taxi")
    first, second, third = write_days(folder, "2016-01-11", 3, 500)
    home = folder / ".encore" / "releases" / "taxi"
    manifest = json.loads((home / "2.evidence" / "manifest.json").read_text())
    make_wrong(second)
    log = log_folder(folder)
    write_log(log, second, fingerprint=manifest["fingerprint"], version=2)
    write_log(log, third, version=2, plain=True)
    (folder / "labels" / f"{third.date}.csv").unlink()
    said = encore(folder, "nightly", "--from", first.date, "--to", third.date)
    return Evaluated(folder, (first.date, second.date, third.date), said)
