"""A made-up day of a request log with its labels, written quickly: for `bench_night_cost`."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

DATE = "2016-01-12"
MODEL = "taxi"
_START_US = 1_452_556_800_000_000
_FLOATS = (
    *["trip_miles", "fare", "pickup_latitude", "pickup_longitude"],
    *["dropoff_latitude", "dropoff_longitude"],
)
_INTS = (
    *["trip_start_hour", "trip_start_day", "trip_start_month", "trip_start_timestamp"],
    *["pickup_community_area", "dropoff_community_area", "trip_seconds"],
    *["pickup_census_tract", "dropoff_census_tract"],
)
_PAYMENTS = ("Cash", "Credit Card", "No Charge", "Unknown")
_COMPANIES = tuple(f"Company {number}" for number in range(45))
_FILE_BYTES = 64 << 20  # as the gateway rotates its files
_ZIPF = 0.8


def write_night(folder: Path, rows: int, distinct: int) -> tuple[list[Path], Path]:
    """Writes a day of requests of one row each, and a CSV with a label for each.

    Half of the requests send an Example, half a tensor for each of 17 features. Popularity of the
    distinct rows follows Zipf's law with exponent 0.8.

    Returns:
        The log's files, and the CSV file.
    """
    from tensorflow_serving.apis import predict_pb2

    rng = random.Random(1)
    made = [_request(rng, number) for number in range(distinct)]
    weights = 1.0 / np.arange(1, distinct + 1) ** _ZIPF
    picks = np.random.default_rng(2).choice(distinct, rows, p=weights / weights.sum())
    scores = np.random.default_rng(3).random(distinct, np.float32)
    answers = []
    for score in scores:
        response = predict_pb2.PredictResponse()
        response.model_spec.name = MODEL
        response.outputs["probability"].dtype = 1
        response.outputs["probability"].tensor_shape.dim.add(size=1)
        response.outputs["probability"].float_val.append(float(score))
        answers.append(_sized(b"\x12", response.SerializeToString()))
    files, size, records, seen = [], 0, [], set()
    day = folder / MODEL / DATE
    day.mkdir(parents=True)
    truth = np.random.default_rng(4).random(rows)
    lines = ["request_id,label"]
    for number, pick in enumerate(picks.tolist()):
        pair = made[pick] + answers[pick]
        status = "hit" if pick in seen else "miss"
        seen.add(pick)
        record = _metadata(number, status, pick % 2 == 0) + _sized(b"\x32", pair)
        framed = _frame(record)
        records.append(framed)
        size += len(framed)
        lines.append(f"{_id(number)},{int(truth[number] < scores[pick])}")
        if size >= _FILE_BYTES or number == rows - 1:
            files.append(day / f"{number:09d}-host-1-0.tfrecord")
            files[-1].write_bytes(b"".join(records))
            size, records = 0, []
    labels = folder / f"{DATE}.csv"
    labels.write_text("\n".join(lines) + "\n")
    return files, labels


def _request(rng: random.Random, number: int) -> bytes:
    """Field `request` of a PredictLog."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    floats = {name: rng.random() * 100 for name in _FLOATS}
    ints = {name: rng.randrange(1, 78) for name in _INTS}
    ints["trip_start_timestamp"] = 1_452_556_800 + number
    ints["trip_start_hour"] = rng.randrange(24)
    texts = {
        "payment_type": rng.choice(_PAYMENTS).encode(),
        "company": rng.choice(_COMPANIES).encode(),
    }
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    if number % 2 == 0:
        example = tf.train.Example()
        for name, value in floats.items():
            example.features.feature[name].float_list.value.append(value)
        for name, value in ints.items():
            example.features.feature[name].int64_list.value.append(value)
        for name, value in texts.items():
            example.features.feature[name].bytes_list.value.append(value)
        _tensor(request, "examples", 7, "string_val", example.SerializeToString())
    else:
        for name, value in floats.items():
            _tensor(request, name, 1, "float_val", value)
        for name, value in ints.items():
            _tensor(request, name, 9, "int64_val", value)
        for name, value in texts.items():
            _tensor(request, name, 7, "string_val", value)
    return _sized(b"\x0a", request.SerializeToString())


def _tensor(request: Any, name: str, dtype: int, field: str, value: Any) -> None:
    tensor = request.inputs[name]
    tensor.dtype = dtype
    tensor.tensor_shape.dim.add(size=1)
    getattr(tensor, field).append(value)


def _id(number: int) -> str:
    return f"{number:08x}-4a7e-4c1b-9d5e-{number:012x}"


def _metadata(number: int, status: str, examples: bool) -> bytes:
    """Field `log_metadata` of a PredictionLog, as the gateway writes it."""
    signature = b"serving_default" if examples else b"predict_raw"
    spec = _sized(b"\x0a", MODEL.encode()) + b"\x12\x02\x08\x03" + _sized(b"\x1a", signature)
    time_us = _START_US + number * 80_000
    tags = (
        *["serve", "encore.log=1", f"encore.cache={status}", "encore.protocol=grpc"],
        *[f"encore.time_us={time_us}", "encore.code=0"],
        *["encore.fingerprint=sha256:" + "ab" * 32],
        *[f"encore.request_id={_id(number)}", f"encore.us={90 if status == 'hit' else 900}"],
    )
    metadata = (
        _sized(b"\x0a", spec)
        + _sized(b"\x12", b"\x09" + struct.pack("<d", 1.0))
        + b"\x20"
        + _varint(time_us // 1_000_000)
        + b"".join(_sized(b"\x1a", tag.encode()) for tag in tags)
    )
    return _sized(b"\x0a", metadata)


def _sized(tag: bytes, data: bytes) -> bytes:
    return tag + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _frame(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    return length + _crc(length) + record + _crc(record)


def _crc(data: bytes) -> bytes:
    value = int(google_crc32c.value(data))
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)
