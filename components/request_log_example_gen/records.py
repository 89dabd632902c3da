"""What one PredictionLog says: the rows of the request, the scores served, and how.

Reads the gateway's records and TensorFlow Serving's own; what the gateway adds stands in
`log_metadata.saved_model_tags` (docs/formats/request-log.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from tensorflow_serving.apis import logging_pb2, prediction_log_pb2

from tfx_encore.cache.tf_predict import DEFAULT_SIGNATURE
from tfx_encore.components.request_log_example_gen.example_bytes import EncodedRow
from tfx_encore.components.request_log_example_gen.log_wire import (
    MULTI,
    LogParts,
    split_log,
    split_metadata,
)
from tfx_encore.components.request_log_example_gen.messages import (
    MessageReader,
    NotALogError,
    UnusableError,
    Wanted,
)
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.nights import HIT, MISS, UNKNOWN

_PREFIX = "encore."
_PREFIX_SIZE = len(_PREFIX)
_MAX_HEADS = 1000
_LOG = prediction_log_pb2.PredictionLog
_KINDS = {"predict_log", "classify_log", "regress_log", "multi_inference_log"}
_PATHS = {"hit": HIT, "miss": MISS, "off": MISS}


class Answered(NamedTuple):
    """A request that was answered; one item for each row in `rows`, `scores`, `paths`.

    Attributes:
        rows: the features.
        scores: in [0, 1].
        paths: `hit`, `miss` or `unknown`.
        signature: that answered.
        version: that answered; 0 if unknown.
        fingerprint: of it; "" if the log does not say.
        time_us: when the request came.
        request_id: the client's; "" if it gave none.
        cache: `hit`, `partial`, `miss`, `off`; "" if the log does not say.
        took_us: until the answer; None if the log does not say.
        rate: the sampling rate, in (0, 1].
    """

    rows: Sequence[EncodedRow]
    scores: Sequence[float]
    paths: Sequence[str]
    signature: str
    version: int
    fingerprint: str
    time_us: int
    request_id: str
    cache: str
    took_us: int | None
    rate: float


class Failed(NamedTuple):
    """A request that was refused or went wrong: its gRPC code as text, and when it came."""

    code: str
    time_us: int


class Unusable(NamedTuple):
    """A record that is sound but not evaluated: why, and when the request came."""

    reason: str
    time_us: int


class _Head(NamedTuple):
    """What the metadata of a record says beside its tags; "" and 0 if it does not."""

    model: str
    signature: str
    version: int
    rate: float


class RecordReader:
    """Reads records, one after the other.

    Args:
        wanted: which.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._messages = MessageReader(wanted)
        self._signatures = frozenset(wanted.signatures)
        self._heads: dict[bytes, _Head] = {}

    def read(self, record: bytes) -> Answered | Failed | Unusable:
        """Reads one record.

        Raises:
            NotALogError: it is none.
        """
        parts = split_log(record) or _by_protobuf(record)
        tags, seconds, head = self._metadata(parts.metadata)
        time_us = _number(tags, "time_us")
        if time_us is None:
            time_us = seconds * 1_000_000
        try:
            return self._answered(parts, head, tags, time_us)
        except NotALogError:
            raise
        except DataError as problem:
            return Unusable(str(problem), time_us)

    def _metadata(self, data: bytes) -> tuple[dict[str, str], int, _Head]:
        """The tags, the time in seconds, and what most records have in common."""
        split = split_metadata(data)
        try:
            if split is not None:
                tags = read_tags([tag.decode() for tag in split.tags])
                return tags, split.timestamp_secs, self._head(split.rest)
            metadata = logging_pb2.LogMetadata.FromString(data)
        except (DecodeError, UnicodeDecodeError) as error:
            raise NotALogError("not a PredictionLog") from error
        return read_tags(metadata.saved_model_tags), metadata.timestamp_secs, _head(metadata)

    def _head(self, data: bytes) -> _Head:
        head = self._heads.get(data)
        if head is None:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            head = self._heads[data] = _head(logging_pb2.LogMetadata.FromString(data))
        return head

    def _answered(
        self, parts: LogParts, head: _Head, tags: dict[str, str], time_us: int
    ) -> Answered | Failed:
        if self._wanted.model and head.model not in {"", self._wanted.model}:
            raise UnusableError("of another model")
        if parts.response is None:
            return Failed(tags.get("code", "unknown"), time_us)
        if parts.kind not in _KINDS:
            raise UnusableError(f"a {parts.kind}")
        # A MultiInference has as many signatures as results.
        named = "" if parts.kind == MULTI else head.signature
        if named:
            self._check(named)
        asked = self._messages.asked(parts.kind, parts.request)
        served = self._messages.served(parts.kind, parts.response)
        signature = named or asked.signature or served.signature or DEFAULT_SIGNATURE
        self._check(signature)
        if len(asked.rows) != len(served.scores):
            raise UnusableError("rows and scores of different number")
        cache = tags.get("cache", "")
        return Answered(
            asked.rows,
            served.scores,
            _paths(cache, tags.get("hits", ""), len(served.scores)),
            signature,
            head.version or served.version,
            tags.get("fingerprint", ""),
            time_us,
            tags.get("request_id", ""),
            cache,
            _number(tags, "us"),
            head.rate or 1.0,
        )

    def _check(self, signature: str) -> None:
        if signature not in self._signatures:
            raise UnusableError(f"signature {signature}")


def _head(metadata: Any) -> _Head:
    spec = metadata.model_spec
    return _Head(
        spec.name,
        spec.signature_name,
        spec.version.value,
        metadata.sampling_config.sampling_rate,
    )


def read_tags(saved_model_tags: Iterable[str]) -> dict[str, str]:
    """What the gateway says beyond TensorFlow Serving's fields, name -> value; else empty."""
    found = {}
    for tag in saved_model_tags:
        if tag.startswith(_PREFIX):
            name, _, value = tag[_PREFIX_SIZE:].partition("=")
            found[name] = value
    return found


def _by_protobuf(record: bytes) -> LogParts:
    """The parts of a record of any layout."""
    try:
        log = _LOG.FromString(record)
    except DecodeError as error:
        raise NotALogError("not a PredictionLog") from error
    kind = log.WhichOneof("log_type")
    if kind is None:
        raise NotALogError("a PredictionLog without a request")
    pair = getattr(log, kind)
    response = pair.response.SerializeToString() if pair.HasField("response") else None
    metadata = log.log_metadata.SerializeToString()
    return LogParts(kind, metadata, pair.request.SerializeToString(), response)


def _number(tags: dict[str, str], name: str) -> int | None:
    text = tags.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 19 else None


def _paths(cache: str, hits: str, rows: int) -> list[str]:
    """The way of each row; `hits` is a bitmap in hex, least significant bit first."""
    if cache != "partial":
        return [_PATHS.get(cache, UNKNOWN)] * rows
    try:
        bits = bytes.fromhex(hits)
    except ValueError:
        bits = b""
    if len(bits) * 8 < rows:
        return [UNKNOWN] * rows
    return [HIT if bits[row // 8] >> row % 8 & 1 else MISS for row in range(rows)]
