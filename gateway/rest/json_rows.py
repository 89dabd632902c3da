"""The quick way from a body to canonical rows, for requests in the row format. No IO here.

`parse_quick` reads a body by orjson alone, and a `RowReader` packs rows without an array between.
Both return None where they are not sure; the full parser judges then. Where they are sure the full
parser accepts the body and makes the same rows of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.rows import STRING, cell_tag, encode_row, join_strings
from tfx_encore.cache.tf_example import ExampleRows
from tfx_encore.gateway.rest.json_alike import reads_alike
from tfx_encore.gateway.rest.json_base64 import unescape
from tfx_encore.gateway.rest.json_leaves import even_leaves, is_base64, quick_values
from tfx_encore.gateway.signature import Signature
from tfx_encore.schemas.errors import DataError

_MAX_PLANS = 256
_MAX_TEXTS = 4096
_MAX_TEXT = 64
_EMPTY = encode_row({})[:1]  # the format
_COUNT = struct.Struct("<H")
_LENGTH = struct.Struct("<I")

# Format of `struct` for one value. `f` refuses what would become infinite, integers what does not
# fit; for both the full parser has an answer.
_NUMBERS = {
    "float32": "f",
    "float64": "d",
    "int8": "b",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "uint8": "B",
    "uint32": "I",
    "uint64": "Q",
}
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(_NUMBERS, (int,)),
    "float32": (float, int),
    "float64": (float, int),
    "bool": (bool,),
    STRING: (str, dict),
}

Packer = Callable[[Any], bytes]


class QuickBody(NamedTuple):
    """A request in the row format, and nothing unusual about it.

    Attributes:
        signature: as the request names it; empty if it does not.
        instances: at least one; not looked at yet.
    """

    signature: str
    instances: list[Any]


def parse_quick(body: bytes) -> QuickBody | None:
    """Reads a body that holds `instances`, perhaps `signature_name`, and nothing else.

    Args:
        body: of the request, decompressed.

    Returns:
        What it says, or None if the full parser must judge.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if type(document) is not dict:
        return None
    instances = document.get("instances")
    if type(instances) is not list or not instances:
        return None
    signature = document.get("signature_name", "")
    if type(signature) is not str or len(document) != (2 if "signature_name" in document else 1):
        return None
    return QuickBody(signature, instances) if reads_alike(body, document) else None


class _Unsure(Exception):  # noqa: N818 - not an error: the full parser judges
    """A value that this way does not know."""


class RowReader:
    """Makes the canonical rows of one signature from the instances of a request.

    Args:
        spec: how its rows are made.
        signature: what it takes.
    """

    def __init__(self, spec: SignatureSpec, signature: Signature) -> None:
        features = sorted(spec.features, key=lambda feature: (not feature.in_key, feature.name))
        self._names = tuple(feature.name for feature in features)
        self._features = features
        self._keyed = sum(feature.in_key for feature in features)
        self._head = _EMPTY + _COUNT.pack(self._keyed)
        self._plans: dict[tuple[type, ...], tuple[Packer, ...] | None] = {}
        self._shapes: list[tuple[int, ...]] = []
        self._texts = [_Texts(feature) for feature in features]
        self._examples = None if spec.form == "tensors" else ExampleRows(spec)
        self._input = next(iter(signature.inputs), "")
        self._take = itemgetter(*self._names) if len(features) > 1 else None
        self._sure = _is_sure(spec, signature)

    def rows(self, instances: Sequence[Any]) -> list[bytes] | None:
        """Returns one canonical row for each instance, or None if the full parser must judge."""
        if not self._sure or not instances:
            return None
        try:
            if self._examples is not None:
                return self._example_rows(self._examples, instances)
            if self._take is None:
                return self._plain_rows(instances)
            return self._named_rows(self._take, instances)
        except (_Unsure, KeyError, OverflowError, struct.error, DataError):
            return None

    def _named_rows(
        self, take: Callable[[Any], tuple[Any, ...]], instances: Sequence[Any]
    ) -> list[bytes]:
        count, plans, head, keyed = len(self._names), self._plans, self._head, self._keyed
        self._shapes.clear()
        rows = []
        for instance in instances:
            if type(instance) is not dict or len(instance) != count:
                raise _Unsure
            values = take(instance)
            kinds = tuple(map(type, values))
            plan = plans.get(kinds)
            if plan is None:
                plan = self._plan(kinds)
            cells = [pack(value) for pack, value in zip(plan, values)]  # noqa: B905 - quicker
            rows.append(head + b"".join(cells[:keyed] if keyed != count else cells))
        self._check_shapes(len(rows))
        return rows

    def _plain_rows(self, instances: Sequence[Any]) -> list[bytes]:
        """Rows of a signature with one input, whose values may stand without its name."""
        self._shapes.clear()
        named = type(instances[0]) is dict and not is_base64(instances[0])
        rows = []
        for instance in instances:
            value = instance
            if named:
                if type(instance) is not dict or len(instance) != 1:
                    raise _Unsure
                value = instance[self._input]
            (pack,) = self._plans.get((type(value),)) or self._plan((type(value),))
            packed = pack(value)
            rows.append(self._head + (packed if self._keyed else b""))
        self._check_shapes(len(rows))
        return rows

    def _example_rows(self, reader: ExampleRows, instances: Sequence[Any]) -> list[bytes]:
        named = type(instances[0]) is dict and not is_base64(instances[0])
        rows = []
        for instance in instances:
            value = instance
            if named:
                if type(instance) is not dict or len(instance) != 1:
                    raise _Unsure
                value = instance[self._input]
            rows.append(encode_row(reader.row(_text(value))))
        return rows

    # --- plans -----------------------------------------------------------------------------------

    def _plan(self, kinds: tuple[type, ...]) -> tuple[Packer, ...]:
        """Returns what packs values of these types.

        Raises:
            _Unsure: a feature does not take its type.
        """
        known = self._plans.get(kinds, ())
        if known is None:
            raise _Unsure
        try:
            plan = tuple(
                self._packer(place, feature, kind)
                for place, (feature, kind) in enumerate(zip(self._features, kinds, strict=True))
            )
        except _Unsure:
            self._remember(kinds, None)
            raise
        self._remember(kinds, plan)
        return plan

    def _remember(self, kinds: tuple[type, ...], plan: tuple[Packer, ...] | None) -> None:
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        self._plans[kinds] = plan

    def _packer(self, place: int, feature: FeatureSpec, kind: type) -> Packer:
        if kind is list and feature.shape:
            return partial(self._list, feature)
        if feature.shape or kind not in _KINDS.get(feature.dtype, ()):
            raise _Unsure
        tag = cell_tag(feature.name, feature.dtype, ())
        if kind is str:
            return self._texts[place].__getitem__
        if kind is dict:
            return lambda value: tag + _string_data(_text(value))
        if feature.dtype == "bool":
            return {False: tag + b"\0", True: tag + b"\1"}.__getitem__
        return partial(struct.Struct(f"<{len(tag)}s{_NUMBERS[feature.dtype]}").pack, tag)

    def _list(self, feature: FeatureSpec, value: list[Any]) -> bytes:
        even = even_leaves(value)
        if even is None:
            raise _Unsure
        shape, leaves = even
        values = quick_values(leaves, feature.dtype)
        if values is None or not _fits(feature.shape, shape):
            raise _Unsure
        self._shapes.append(shape)
        data = join_strings(values.tolist()) if feature.dtype == STRING else _little(values)
        return cell_tag(feature.name, feature.dtype, shape) + data

    def _check_shapes(self, rows: int) -> None:
        """All rows of a request have the same shapes; a shape that varies only fits by itself."""
        shapes = self._shapes
        each = len(shapes) // rows
        if len(shapes) != each * rows or shapes[each:] != shapes[: len(shapes) - each]:
            raise _Unsure


class _Texts(dict[str, bytes]):
    """Text -> the cell of a scalar string feature; short texts are remembered."""

    def __init__(self, feature: FeatureSpec) -> None:
        self._tag = cell_tag(feature.name, STRING, ())

    def __missing__(self, text: str) -> bytes:
        packed = self._tag + _string_data(text.encode())
        if len(text) <= _MAX_TEXT:
            if len(self) >= _MAX_TEXTS:
                self.clear()
            self[text] = packed
        return packed


def _is_sure(spec: SignatureSpec, signature: Signature) -> bool:
    """True if the rows of a signature can be made here at all."""
    inputs = signature.inputs
    if "b64" in inputs:
        return False  # an object of inputs and one of bytes look alike then
    if spec.form != "tensors":
        given = inputs.get(spec.input_name)
        return len(inputs) == 1 and given is not None and given.dtype == STRING
    return len(spec.features) == len(inputs) > 0 and all(
        feature.name in inputs and inputs[feature.name].dtype == feature.dtype
        for feature in spec.features
    )


def _text(value: Any) -> bytes:
    """Returns the bytes of a string, or of an object that holds bytes."""
    if type(value) is str:
        return value.encode()
    data = unescape(value["b64"].encode()) if is_base64(value) else None
    if data is None:
        raise _Unsure
    return data


def _string_data(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value


def _little(values: Any) -> bytes:
    data: bytes = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return data


def _fits(wanted: Sequence[int], shape: Sequence[int]) -> bool:
    return len(wanted) == len(shape) and all(
        want in (-1, have) for want, have in zip(wanted, shape, strict=True)
    )
