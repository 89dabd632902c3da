"""Answers as JSON, byte for byte as TensorFlow Serving lays them out. No IO here.

util/json_tensor.cc, MakeJsonFromTensors and MakeJsonFromStatus: RapidJSON's PrettyWriter with four
spaces. In the row format arrays are on one line, but for the end of `predictions`; objects, base 64
among them, are on several. In the columnar format everything is. Outputs are in order of their
names; TensorFlow Serving has them in that of a hash map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from tfx_encore.cache.answers import decode_answer
from tfx_encore.cache.rows import to_array
from tfx_encore.gateway.errors import invalid
from tfx_encore.gateway.rest.json_debug import dtype_name
from tfx_encore.gateway.rest.json_numbers import decimals
from tfx_encore.gateway.rest.json_proto import proto_json
from tfx_encore.gateway.rest.json_text import base64_text, quoted
from tfx_encore.gateway.signature import Array, Tensors
from tfx_encore.schemas.errors import DataError

__all__ = ["AnswerWriter", "error_json", "predict_json", "proto_json"]

_INTEGERS = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"})
_BYTES_SUFFIX = "_bytes"
_HEAD = b'{\n    "predictions": ['
_TAIL = b"\n    ]\n}"
_REMEMBERED_BYTES = 16 << 20


def predict_json(outputs: Tensors, format: Literal["row", "columnar"]) -> bytes:  # noqa: A002
    """Returns the answer to a Predict request.

    Args:
        outputs: name -> value; strings as object arrays of bytes.
        format: of the request.

    Raises:
        ServingError: INVALID_ARGUMENT, no outputs; rows of different numbers, or no rows, in the
            row format; a dtype that JSON has no form for.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    names = sorted(outputs)
    if format == "columnar":
        return _columnar([(name, outputs[name]) for name in names])
    count = _batch_size([(name, outputs[name]) for name in names])
    if count == 0:
        return _HEAD + b"]\n}"
    rows = zip(*(_row_texts(name, outputs[name], len(names) > 1) for name in names), strict=True)
    if len(names) == 1:
        return _HEAD + b", ".join(text for (text,) in rows) + _TAIL
    return _HEAD + b",".join(_object(names, row) for row in rows) + _TAIL


def error_json(message: str) -> bytes:
    """Returns the body of an error."""
    try:
        text = message.encode()
    except UnicodeEncodeError:
        text = message.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode()
    return b'{\n    "error": ' + quoted(text) + b"\n}"


class AnswerWriter:
    """Writes row-format answers from their bytes, and remembers the text of recent ones.

    Args:
        max_bytes: of answers and texts that are remembered, by their own sizes.
    """

    def __init__(self, max_bytes: int = _REMEMBERED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._used = 0
        self._texts: dict[bytes, _Row] = {}
        self._bodies: dict[bytes, bytes] = {}

    def write(self, answers: Sequence[bytes]) -> bytes:
        """Returns what `predict_json` makes of the answers' rows.

        Args:
            answers: of the rows of one request (`cache.answers`), at least one.

        Raises:
            ServingError: as `predict_json`.
            DataError: an answer is damaged, or they are not of one model.
        """
        if len(answers) == 1:
            body = self._bodies.get(answers[0])
            if body is None:
                body = _HEAD + self._row(answers[0]).text + _TAIL
                self._keep(self._bodies, answers[0], body, len(body))
            return body
        rows = [self._texts.get(data) or self._row(data) for data in answers]
        first = rows[0]
        if any(row.form is not first.form and row.form != first.form for row in rows):
            raise DataError("answers of different models in one batch")
        return _HEAD + first.separator.join([row.text for row in rows]) + _TAIL

    def _row(self, data: bytes) -> _Row:
        row = self._texts.get(data)
        if row is None:
            row = _Row(data)
            self._keep(self._texts, data, row, len(row.text))
        return row

    def _keep(self, memo: dict[bytes, Any], data: bytes, value: Any, size: int) -> None:
        size += len(data)
        if size > self._max_bytes:
            return
        if self._used + size > self._max_bytes:
            # All at once: recent answers come back at once too, and nothing is counted on a hit.
            self._texts.clear()
            self._bodies.clear()
            self._used = 0
        memo[data] = value
        self._used += size


class _Row:
    """The text of one row.

    Attributes:
        text: as it stands in `predictions`.
        form: names, dtypes and shapes of the outputs.
        separator: between this row and the next.
    """

    __slots__ = ("form", "separator", "text")

    def __init__(self, data: bytes) -> None:
        cells = decode_answer(data)
        if not cells:
            raise invalid("Cannot convert empty tensor map to JSON")
        self.form = tuple((name, item.dtype, item.shape) for name, item in cells.items())
        named = len(cells) > 1
        texts = []
        for name, item in cells.items():
            texts += _row_texts(name, to_array(item)[None], named)
        self.text = _object(list(cells), texts) if named else texts[0]
        self.separator = b"," if named else b", "


def _batch_size(outputs: Sequence[tuple[str, Array]]) -> int:
    count = -1
    for name, array in outputs:
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if count not in (-1, len(array)):
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {count}"
            )
        count = len(array)
    return count


def _object(names: Sequence[str], texts: Sequence[bytes]) -> bytes:
    """Returns a row of several outputs, with the line break before it."""
    members = b",".join(
        b"\n            " + quoted(name.encode()) + b": " + text
        for name, text in zip(names, texts, strict=True)
    )
    return b"\n        {" + members + b"\n        }"


def _row_texts(name: str, array: Array, named: bool) -> list[bytes]:
    """Returns the text of each row of an output."""
    indent = (12 if named else 8) + 4 * (array.ndim - 1)
    return _nested(_leaf_texts(name, array, indent), array.shape, _on_one_line, 1)


def _on_one_line(items: list[bytes], level: int) -> bytes:
    del level
    return b"[" + b", ".join(items) + b"]"


def _columnar(outputs: Sequence[tuple[str, Array]]) -> bytes:
    if len(outputs) == 1:
        return b'{\n    "outputs": ' + _column(*outputs[0], 4) + b"\n}"
    members = b",".join(
        b"\n        " + quoted(name.encode()) + b": " + _column(name, array, 8)
        for name, array in outputs
    )
    return b'{\n    "outputs": {' + members + b"\n    }\n}"


def _column(name: str, array: Array, indent: int) -> bytes:
    """Returns an output on as many lines as it has values, and more."""

    def bracket(items: list[bytes], level: int) -> bytes:
        if not items:
            return b"[]"
        begin = b"\n" + b" " * (indent + 4 * level + 4)
        end = b"\n" + b" " * (indent + 4 * level)
        return b"[" + begin + (b"," + begin).join(items) + end + b"]"

    leaves = _leaf_texts(name, array, indent + 4 * array.ndim)
    return _nested(leaves, array.shape, bracket, 0)[0]


def _nested(
    leaves: list[bytes],
    shape: Sequence[int],
    bracket: Callable[[list[bytes], int], bytes],
    outer: int,
) -> list[bytes]:
    """Joins leaves into arrays, the innermost first, down to dimension `outer`."""
    items = leaves
    for level in range(len(shape) - 1, outer - 1, -1):
        size = shape[level]
        count = 1
        for dim in shape[:level]:
            count *= dim
        items = [bracket(items[at * size : (at + 1) * size], level) for at in range(count)]
    return items


def _leaf_texts(name: str, array: Array, indent: int) -> list[bytes]:
    """Returns the text of each value of an output in C order.

    Args:
        name: of the output.
        array: its value.
        indent: in spaces, of the line on which a value begins, if that is an object.

    Raises:
        ServingError: INVALID_ARGUMENT, a dtype that JSON has no form for.
    """
    dtype = array.dtype.name
    if array.dtype == object:
        return list(_strings(array, name.endswith(_BYTES_SUFFIX), indent))
    if dtype in ("float32", "float64"):
        return " ".join(decimals(array)).encode().split()
    if dtype in _INTEGERS:
        return [b"%d" % value for value in array.ravel().tolist()]
    if dtype == "bool":
        return [b"true" if value else b"false" for value in array.ravel().tolist()]
    if not array.size:
        return []
    raise invalid(f"Failed to write JSON value for tensor type: {dtype_name(dtype)}")


def _strings(array: Array, as_bytes: bool, indent: int) -> Iterator[bytes]:
    if not as_bytes:
        yield from map(quoted, array.ravel().tolist())
        return
    begin = b"{\n" + b" " * (indent + 4) + b'"b64": '
    end = b"\n" + b" " * indent + b"}"
    for value in array.ravel().tolist():
        yield begin + base64_text(value) + end
