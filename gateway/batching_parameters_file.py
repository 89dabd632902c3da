"""Reads text files of TensorFlow Serving's configuration messages that have no Python package.

The published package `tensorflow-serving-api` leaves out session_bundle_config.proto and
monitoring_config.proto. What is needed of them is described here in code, in a pool of its own, so
that it never clashes with a package that brings them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, text_format, wrappers_pb2
from pydantic import ValidationError

from tfx_encore.gateway.batching_parameters import BatchingParameters
from tfx_encore.schemas.compat import message_class
from tfx_encore.schemas.errors import ConfigError

_PACKAGE = "tensorflow.serving"
_WRAPPERS = ("Int64Value", "BoolValue", "StringValue")


class ProtoField(NamedTuple):
    """One field of a message.

    Attributes:
        number: its tag.
        kind: `int64`, `bool`, `string`; or the name of a message: one of google.protobuf's
            wrappers, or one that is described beside this one.
        repeated: True if it is a list.
    """

    number: int
    kind: str
    repeated: bool = False


_BATCHING = {
    "BatchingParameters": {
        "max_batch_size": ProtoField(1, "Int64Value"),
        "batch_timeout_micros": ProtoField(2, "Int64Value"),
        "max_enqueued_batches": ProtoField(3, "Int64Value"),
        "num_batch_threads": ProtoField(4, "Int64Value"),
        "thread_pool_name": ProtoField(5, "StringValue"),
        "enable_large_batch_splitting": ProtoField(8, "BoolValue"),
        "max_execution_batch_size": ProtoField(9, "Int64Value"),
        "allowed_batch_sizes": ProtoField(6, "int64", repeated=True),
        "pad_variable_length_inputs": ProtoField(7, "bool"),
    }
}


def read_batching_parameters(path: str) -> BatchingParameters:
    """Reads the file of `--batching_parameters_file`.

    `thread_pool_name` is accepted and names nothing here.

    Raises:
        ConfigError: the file cannot be read, is not such a message, or holds values that cannot be;
            names file and line, or file and field.
    """
    message = read_text_proto(path, _BATCHING, "BatchingParameters")
    values: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.name == "thread_pool_name":
            continue
        if field.name == "allowed_batch_sizes":
            values[field.name] = tuple(value)
        else:
            values[field.name] = value.value if field.message_type is not None else value
    try:
        return BatchingParameters(**values)
    except ValidationError as error:
        raise config_error(error, path) from error


def read_text_proto(path: str, messages: Mapping[str, Mapping[str, ProtoField]], name: str) -> Any:
    """Reads one message in protobuf's text format.

    Args:
        path: of the file.
        messages: message -> field -> what it is; all in the package `tensorflow.serving`.
        name: of the message that the file holds.

    Raises:
        ConfigError: the file cannot be read, or is not such a message; names file and line.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=path) from error
    message = _message_class(messages, name)()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        place = f"{path}:{error.GetLine()}" if error.GetLine() else path
        raise ConfigError(
            f"not a {_PACKAGE}.{name} in text format: {error}; its fields are "
            f"{', '.join(messages[name])}",
            file=place,
        ) from error
    return message


def config_error(error: ValidationError, path: str) -> ConfigError:
    """Returns what is wrong with a file's values in one line."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or None
    text = first["msg"].removeprefix("Value error, ")
    return ConfigError(
        text if key is None else f"{text}; it is {first['input']}", file=path, key=key
    )


def _message_class(messages: Mapping[str, Mapping[str, ProtoField]], name: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{name}.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for message_name, fields in messages.items():
        described = file.message_type.add(name=message_name)
        for field_name, field in fields.items():
            described.field.append(_field(field_name, field, list(messages)))
    pool.AddSerializedFile(file.SerializeToString())
    return message_class(pool, f"{_PACKAGE}.{name}")


def _field(name: str, field: ProtoField, messages: Sequence[str]) -> Any:
    kinds = descriptor_pb2.FieldDescriptorProto
    described = kinds(
        name=name,
        number=field.number,
        label=kinds.LABEL_REPEATED if field.repeated else kinds.LABEL_OPTIONAL,
    )
    if field.kind in _WRAPPERS:
        described.type, described.type_name = kinds.TYPE_MESSAGE, f".google.protobuf.{field.kind}"
    elif field.kind in messages:
        described.type, described.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{field.kind}"
    else:
        described.type = kinds.Type.Value(f"TYPE_{field.kind.upper()}")
    return described
