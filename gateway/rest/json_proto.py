"""Status and metadata of models as JSON. Needs protobuf, not TensorFlow.

model_servers/http_rest_api_util.cc, ToJsonString: google::protobuf::util::MessageToJsonString with
white space, and with fields that have no presence (json/internal/unparser.cc, writer.cc): one space
for each level, fields in order of their numbers, a line break at the end. Maps are in order of
their keys; there they are in that of a hash map.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator
from typing import Any

from google.protobuf import symbol_database
from google.protobuf.descriptor import FieldDescriptor

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.rest.json_numbers import decimal32, decimal64
from tfx_encore.schemas.compat import is_repeated

_METADATA = "tensorflow.serving.GetModelMetadataResponse"
_SIGNATURES = "tensorflow.serving.SignatureDefMap"
_ANY = "google.protobuf.Any"
_WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_QUOTED = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
# Beside what JSON asks for: what a browser or a terminal could take for something else.
_SPECIAL = re.compile(
    '[\x00-\x1f"\\\\<>\x7f-\x9f\xad\u0600-\u0603\u06dd\u070f\u17b4\u17b5\u200b-\u200f'
    "\u2028-\u202e\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\U0001d173-\U0001d17a"
    "\U000e0001\U000e0020-\U000e007f]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\f": "\\f", "\b": "\\b"}
_SHORT["\\"] = "\\\\"


def proto_json(message: Any) -> bytes:
    """Returns a message as TensorFlow Serving prints it.

    A `GetModelMetadataResponse` is printed by its parts, with the names of the proto file;
    everything else with the names for JSON.

    Raises:
        ServingError: INTERNAL, metadata without signatures.
    """
    if message.DESCRIPTOR.full_name == _METADATA:
        return _metadata(message).encode()
    return (_message(message, 0, False) + "\n").encode()


def _metadata(message: Any) -> str:
    if "signature_def" not in message.metadata:
        raise ServingError(
            Code.INTERNAL,
            "Failed to find 'signature_def' key in the GetModelMetadataResponse metadata map.",
        )
    signatures = symbol_database.Default().GetSymbol(_SIGNATURES)()
    if not message.metadata["signature_def"].Unpack(signatures):
        raise ServingError(Code.INTERNAL, "Failed to unpack 'Any' object to 'SignatureDefMap'.")
    return (
        f'{{\n"model_spec":{_message(message.model_spec, 0, True)}\n,\n'
        f'"metadata": {{"signature_def": {_message(signatures, 0, True)}\n}}\n}}\n'
    )


def _message(message: Any, level: int, proto_names: bool) -> str:
    kind = message.DESCRIPTOR.full_name
    if kind in _WRAPPERS:
        return _single(message.DESCRIPTOR.fields_by_name["value"], message.value, level, False)
    members = []
    if kind == _ANY:
        if not message.type_url:
            return "{}"
        members.append(f'"@type": {_quoted(message.type_url)}')
        name = message.type_url.rpartition("/")[2]
        inner = symbol_database.Default().GetSymbol(name)()
        message.Unpack(inner)
        message = inner
    for field in sorted(message.DESCRIPTOR.fields, key=lambda field: int(field.number)):
        if _is_printed(message, field):
            name = field.name if proto_names else field.json_name
            value = _field(field, getattr(message, field.name), level + 1, proto_names)
            members.append(f"{_quoted(name)}: {value}")
    return _enclosed("{", members, "}", level)


def _is_printed(message: Any, field: Any) -> bool:
    if is_repeated(field):
        return True
    if field.containing_oneof is None and field.message_type is None:
        return True
    return bool(message.HasField(field.name))


def _field(field: Any, value: Any, level: int, proto_names: bool) -> str:
    if not is_repeated(field):
        return _single(field, value, level, proto_names)
    inner = level + 1
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        item = field.message_type.fields_by_name["value"]
        members = [
            f"{_quoted(_key(key))}: {_single(item, value[key], inner, proto_names)}"
            for key in sorted(value)
        ]
        return _enclosed("{", members, "}", level)
    items = [_single(field, item, inner, proto_names) for item in value]
    return _enclosed("[", items, "]", level)


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _enclosed(begin: str, parts: list[str], end: str, level: int) -> str:
    if not parts:
        return begin + end
    line = "\n" + " " * (level + 1)
    return begin + line + f",{line}".join(parts) + "\n" + " " * level + end


def _single(field: Any, value: Any, level: int, proto_names: bool) -> str:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_MESSAGE:
        return _message(value, level, proto_names)
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return _decimal(value, kind == FieldDescriptor.CPPTYPE_FLOAT)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        known = field.enum_type.values_by_number.get(value)
        return str(value) if known is None else f'"{known.name}"'
    if kind in _QUOTED:
        return f'"{value}"'
    return _plain(value)


def _plain(value: bool | int | str | bytes) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return f'"{base64.b64encode(value).decode()}"'
    return _quoted(value) if isinstance(value, str) else str(value)


def _decimal(value: float, single: bool) -> str:
    """Returns a number with the digits of io::SimpleFtoa or SimpleDtoa."""
    if math.isnan(value):
        return '"NaN"'
    if math.isinf(value):
        return '"Infinity"' if value > 0 else '"-Infinity"'
    if single:
        return decimal32(value).removesuffix(".0")
    for digits in (15, 17):
        text = f"{value:.{digits}g}"
        if float(text) == value:
            return text
    return decimal64(value)


def _quoted(text: str) -> str:
    return '"' + _SPECIAL.sub(lambda found: _escape(found.group()), text) + '"'


def _escape(character: str) -> str:
    short = _SHORT.get(character)
    return short or "".join(_units(character))


def _units(character: str) -> Iterator[str]:
    data = character.encode("utf-16-be")
    for at in range(0, len(data), 2):
        yield f"\\u{data[at]:02x}{data[at + 1]:02x}"
