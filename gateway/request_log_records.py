"""What one request looks like in the log: a tensorflow.serving.PredictionLog.

As tensorflow_serving/core/request_logger.cc writes it. What TensorFlow Serving has no field for
goes into `log_metadata.saved_model_tags`, behind the tag of the SavedModel;
docs/formats/request-log.md says how. Imported by the writer's thread only: the messages take
TensorFlow with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tensorflow_serving.apis import logging_pb2, prediction_log_pb2

from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.request_log_converter import Converter
from tfx_encore.gateway.request_record import RequestRecord

PREFIX = "encore."
_SERVE = "serve"
_LONGEST = {"message": 1024, "hits": 4096}
_FIELDS = {
    "Predict": "predict_log",
    "Classify": "classify_log",
    "Regress": "regress_log",
    "MultiInference": "multi_inference_log",
}


def prediction_log(record: RequestRecord, rate: float, converter: Converter | None) -> bytes | None:
    """Returns a record serialised; None if there is nothing to log of it.

    Of a request that failed its metadata is logged even if nobody can read the request.

    Args:
        record: of one request.
        rate: at which such requests are logged.
        converter: for those that came as JSON.
    """
    field = _FIELDS.get(record.method)
    if field is None:
        return None
    message = prediction_log_pb2.PredictionLog()
    pair = getattr(message, field)
    pair.SetInParent()
    try:
        _fill(pair, record, converter)
    except Exception:  # noqa: BLE001 - what a client sent may be anything
        if record.code == Code.OK:
            return None
        pair.Clear()
        pair.SetInParent()
    message.log_metadata.CopyFrom(_metadata(record, rate))
    return bytes(message.SerializeToString())


def _fill(pair: Any, record: RequestRecord, converter: Converter | None) -> None:
    if record.protocol == "grpc":
        pair.request.ParseFromString(record.request)
        if record.code == Code.OK:
            pair.response.ParseFromString(record.response)
        return
    if converter is None:
        raise ValueError("nobody converts JSON")
    made = converter(record)
    pair.request.CopyFrom(made.request)
    if made.response is not None:
        pair.response.CopyFrom(made.response)


def _metadata(record: RequestRecord, rate: float) -> Any:
    metadata = logging_pb2.LogMetadata()
    metadata.model_spec.name = clean(record.model)
    if record.version:
        metadata.model_spec.version.value = record.version
    metadata.model_spec.signature_name = clean(record.signature)
    metadata.sampling_config.sampling_rate = rate
    metadata.timestamp_secs = int(record.received_at)
    metadata.saved_model_tags.extend((_SERVE, *tags(record)))
    return metadata


def tags(record: RequestRecord) -> list[str]:
    """Returns what TensorFlow Serving has no field for, as `encore.<name>=<value>`."""
    said = {
        "log": "1",
        "cache": record.status,
        "protocol": record.protocol,
        "time_us": str(int(record.received_at * 1e6)),
        "code": str(int(record.code)),
        "message": record.message,
        "fingerprint": record.fingerprint,
        "label": record.label,
        "request_id": record.request_id,
        "us": str(round(record.seconds * 1e6)) if record.seconds >= 0 else "",
        "hits": record.hit_rows.hex(),
    }
    return [
        f"{PREFIX}{name}={clean(value, _LONGEST.get(name, 256))}"
        for name, value in said.items()
        if value
    ]


def read_tags(saved_model_tags: Iterable[str]) -> dict[str, str]:
    """Returns what `tags` wrote, name -> value; empty for a log of TensorFlow Serving's own."""
    found = (tag[len(PREFIX) :].partition("=") for tag in saved_model_tags if tag[:7] == PREFIX)
    return {name: value for name, _, value in found}


def clean(text: str, longest: int = 256) -> str:
    """Returns a text that a message can hold: valid Unicode, of this many characters at most."""
    return text[:longest].encode("utf-8", "replace").decode("utf-8")
