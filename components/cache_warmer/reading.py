"""Records of examples and request logs, up to the damage if there is some."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import google_crc32c
from tfx.dsl.io import fileio

from tfx_encore.cache.keys import canonical_filter
from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.cache.rows import Cell, Row, to_array
from tfx_encore.cache.tf_example import ExampleRows, features_of
from tfx_encore.cache.tf_predict import DEFAULT_SIGNATURE, RequestRows, tensor_values
from tfx_encore.schemas.errors import DataError

_FRAMING = 16  # bytes of length and checksums around each TFRecord
_HEADER = 12
_LENGTH = struct.Struct("<QI")
_REMEMBERED = 10_000  # requests of a log, whose rows a repeated request then has at once
_LONGEST_REMEMBERED = 4096  # bytes of one


@dataclass(frozen=True)
class SourceFile:
    """A TFRecord file to count.

    Attributes:
        path: where; `.gz` is read as gzip.
        is_log: it holds PredictionLog records, else tf.Examples.
        held_out: all of it lies in the held-out window.
        held_from: number of the first record in the held-out window, if that is decided by order.
    """

    path: str
    is_log: bool
    held_out: bool = False
    held_from: int | None = None


@dataclass(frozen=True)
class Damage:
    """Where a file stops being readable.

    Attributes:
        path: the file.
        offset: byte (of the uncompressed file) up to which records were read.
        lost: bytes after it; of a compressed file all, as it says nothing of how much is gone.
        error: what the reader said.
    """

    path: str
    offset: int
    lost: int
    error: str


class Counted(NamedTuple):
    """A row found in a source.

    Attributes:
        signature: index of the signature.
        row: the canonical row.
        example: the Example it came as; b"" if it came as tensors.
        time: value of the timestamp feature; None without one.
    """

    signature: int
    row: Row
    example: bytes
    time: float | None


def list_files(pattern: str) -> list[str]:
    """Files that a glob pattern matches, by name.

    Raises:
        DataError: there is none.
    """
    files = sorted(path for path in fileio.glob(pattern) if not fileio.isdir(path))
    if not files:
        raise DataError(f"no file matches {pattern!r}; check the path of the data or request log")
    return files


class RecordFile:
    """The records of a TFRecord file; afterwards `damage` says whether it was read to its end."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.records = 0
        self.offset = 0
        self.damage: Damage | None = None

    def __iter__(self) -> Iterator[bytes]:
        packed = self.path.endswith(".gz")
        error = ""
        try:
            for record in _records(self.path, packed):
                self.records += 1
                self.offset += len(record) + _FRAMING
                yield record
        except (EOFError, OSError, zlib.error) as problem:
            error = str(problem)
        if error:
            lost = _size(self.path) - (0 if packed else self.offset)
            self.damage = Damage(self.path, self.offset, max(lost, 1), error)

    def facts(self) -> dict[str, Any]:
        """Path, records and bytes read, bytes lost and why, once it has been read."""
        lost, error = (self.damage.lost, self.damage.error) if self.damage else (0, "")
        return {
            "path": self.path,
            "records": self.records,
            "offset": self.offset,
            "lost": lost,
            "error": error,
        }


class SourceReader:
    """Turns the records of sources into rows.

    Args:
        specs: the signatures to warm, in the order of their indices.
        output_filter: requests that ask for other outputs are passed over.
        timestamp_feature: feature or tensor that gives `Counted.time`.
    """

    def __init__(
        self,
        specs: Sequence[SignatureSpec],
        output_filter: Sequence[str] = (),
        timestamp_feature: str | None = None,
    ) -> None:
        self._filter = canonical_filter(output_filter)
        self._time = timestamp_feature
        self._examples = [(ExampleRows(spec), spec.form == "tensors") for spec in specs]
        self._requests = {spec.signature: RequestRows(spec) for spec in specs}
        self._index = {spec.signature: index for index, spec in enumerate(specs)}
        self._remembered: dict[bytes, list[Counted]] = {}

    def rows(self, record: bytes, is_log: bool, tally: dict[str, int]) -> list[Counted]:
        """Returns the rows of one record; what is passed over is added to `tally` by reason."""
        try:
            return self._of_log(record, tally) if is_log else self._of_example(record, tally)
        except DataError:
            _add(tally, "unusable")
            return []

    def _of_example(self, record: bytes, tally: dict[str, int]) -> list[Counted]:
        found = []
        for index, (reader, as_tensors) in enumerate(self._examples):
            try:
                row = reader.row(record)
            except DataError:
                _add(tally, "unusable")
                continue
            example = b"" if as_tensors else record
            found.append(Counted(index, row, example, self._time_of(record)))
        return found

    def _of_log(self, record: bytes, tally: dict[str, int]) -> list[Counted]:
        request = _predict_request(record)
        if request is None:
            _add(tally, "not a Predict request")
            return []
        signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if signature not in self._requests:
            _add(tally, f"signature {signature}")
            return []
        if canonical_filter(request.output_filter) != self._filter:
            _add(tally, "another output filter")
            return []
        # Equal bytes are equal requests; unequal bytes of equal requests only cost time.
        data = request.SerializeToString(deterministic=True)
        found = self._remembered.get(data)
        if found is None:
            found = self._rows_of(request, signature)
            self._remember(data, found)
        return found

    def _remember(self, data: bytes, found: list[Counted]) -> None:
        if len(data) <= _LONGEST_REMEMBERED:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[data] = found

    def _rows_of(self, request: Any, signature: str) -> list[Counted]:
        rows = self._requests[signature].rows(request)
        times = self._times_of_tensors(request, len(rows))
        index = self._index[signature]
        return [
            Counted(index, row, example, self._time_of(example) if example else time)
            for (row, example), time in zip(rows, times, strict=True)
        ]

    def _time_of(self, example: bytes) -> float | None:
        if self._time is None:
            return None
        found = features_of(example).get(self._time)
        if found is None or not found.values or found.dtype not in ("int64", "float32"):
            return None
        return float(to_array(Cell(found.dtype, (found.values,), found.data))[0])

    def _times_of_tensors(self, request: Any, rows: int) -> list[float | None]:
        if self._time is None or self._time not in request.inputs:
            return [None] * rows
        values = tensor_values(request.inputs[self._time]).reshape(rows, -1)[:, 0]
        return [float(value) for value in values]


def check_damage(damages: Sequence[Damage], total_bytes: int, tolerated: float) -> str | None:
    """Decides whether damaged sources may be used; returns a line to log if there are any.

    Raises:
        DataError: more than the tolerated share of the bytes is lost; names the first file and
            offset.
    """
    if not damages:
        return None
    lost = sum(damage.lost for damage in damages)
    share = lost / max(total_bytes, lost)
    first = damages[0]
    told = (
        f"{first.path}: unreadable from byte {first.offset} on ({first.error}); "
        f"{len(damages)} damaged file(s), {lost} bytes lost, a share of {share:.2g}"
    )
    if share > tolerated:
        raise DataError(
            f"{told}; repair or remove the file, or raise tolerate_damaged_share "
            f"(now {tolerated:g})"
        )
    return told


def _records(path: str, packed: bool) -> Iterator[bytes]:
    """Records of a TFRecord file, checksums checked.

    TensorFlow's reader takes a file cut short within a header, and a gzip stream cut short, for a
    whole one.

    Raises:
        EOFError, OSError, zlib.error: the file is damaged from here on.
    """
    with fileio.open(path, "rb") as raw:
        if not packed:
            yield from _framed(raw)
            return
        with gzip.open(raw, "rb") as file:
            yield from _framed(file)


def _framed(file: Any) -> Iterator[bytes]:
    while header := file.read(_HEADER):
        if len(header) < _HEADER:
            raise EOFError("a record's header is cut short")
        length, checksum = _LENGTH.unpack(header)
        if _masked_crc(header[:8]) != checksum:
            raise EOFError("a record's length fails its checksum")
        body = file.read(length + 4)
        if len(body) < length + 4:
            raise EOFError("the last record is cut short")
        record = body[:-4]
        if _masked_crc(record) != int.from_bytes(body[-4:], "little"):
            raise EOFError("a record fails its checksum")
        yield record


def _masked_crc(data: bytes) -> int:
    """CRC-32C as TFRecord files hold it (tensorflow/core/lib/hash/crc32c.h)."""
    value = int(google_crc32c.value(data))
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _size(path: str) -> int:
    with fileio.open(path, "rb") as file:
        file.seek(0, 2)
        return int(file.tell())


def _predict_request(record: bytes) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError as error:
        raise DataError("a record is not a PredictionLog") from error
    return log.predict_log.request if log.WhichOneof("log_type") == "predict_log" else None


def _add(tally: dict[str, int], reason: str) -> None:
    tally[reason] = tally.get(reason, 0) + 1
