"""A PredictionLog cut into its parts without parsing them. No IO here.

A request is then parsed only if its bytes were not seen before. Protobuf allows other layouts of
the same message (fields in parts, unknown fields); for those None is returned and the caller asks
protobuf (tensorflow_serving/apis/prediction_log.proto).
"""

from __future__ import annotations

from typing import NamedTuple

from tfx_encore.cache.example_wire import varint

PREDICT, CLASSIFY, REGRESS, MULTI = (
    "predict_log",
    "classify_log",
    "regress_log",
    "multi_inference_log",
)
_METADATA, _REQUEST, _RESPONSE = 0x0A, 0x0A, 0x12
_KINDS = {0x12: CLASSIFY, 0x1A: REGRESS, 0x22: MULTI, 0x32: PREDICT}


_TAG, _TIMESTAMP = 0x1A, 0x20
_TEXTS_AND_MESSAGES = frozenset(range(0x0A, 0x80, 8))  # fields 1 to 15


class LogParts(NamedTuple):
    """Serialised parts of a PredictionLog.

    Attributes:
        kind: name of the field with request and response.
        metadata: LogMetadata.
        request: message of that kind.
        response: message of that kind; None if there was no answer.
    """

    kind: str
    metadata: bytes
    request: bytes
    response: bytes | None


def split_log(record: bytes) -> LogParts | None:
    """Returns the parts of a record; None if it is laid out unusually or is none."""
    try:
        return _split(record)
    except IndexError:
        return None


class MetadataParts(NamedTuple):
    """Parts of a LogMetadata.

    Attributes:
        tags: its `saved_model_tags`.
        timestamp_secs: 0 if it has none.
        rest: all else, serialised: much the same in every record.
    """

    tags: list[bytes]
    timestamp_secs: int
    rest: bytes


def split_metadata(metadata: bytes) -> MetadataParts | None:
    """Returns the parts of a LogMetadata; None if it is laid out unusually or is none."""
    tags, rest, seconds = [], [], 0
    at, size = 0, len(metadata)
    try:
        while at < size:
            field, start = metadata[at], at
            number, at = varint(metadata, at + 1)
            if field == _TIMESTAMP:
                seconds = number
                continue
            if field not in _TEXTS_AND_MESSAGES:
                return None
            if field == _TAG:
                tags.append(metadata[at : at + number])
            at += number
            if field != _TAG:
                rest.append(metadata[start:at])
    except IndexError:
        return None
    if at != size or seconds >> 63:
        return None
    return MetadataParts(tags, seconds, b"".join(rest))


def _split(record: bytes) -> LogParts | None:
    metadata = pair = None
    kind = ""
    at, size = 0, len(record)
    while at < size:
        tag = record[at]
        length, start = varint(record, at + 1)
        at = start + length
        if at > size:
            return None
        if tag == _METADATA and metadata is None:
            metadata = record[start:at]
        elif tag in _KINDS and pair is None:
            kind, pair = _KINDS[tag], record[start:at]
        else:
            return None
    if metadata is None or pair is None:
        return None
    return _with_pair(kind, metadata, pair)


def _with_pair(kind: str, metadata: bytes, pair: bytes) -> LogParts | None:
    request = response = None
    at, size = 0, len(pair)
    while at < size:
        tag = pair[at]
        length, start = varint(pair, at + 1)
        at = start + length
        if at > size:
            return None
        if tag == _REQUEST and request is None:
            request = pair[start:at]
        elif tag == _RESPONSE and response is None:
            response = pair[start:at]
        else:
            return None
    return LogParts(kind, metadata, request or b"", response)
