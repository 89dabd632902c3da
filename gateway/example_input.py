"""The tf.Examples of a tensorflow.serving.Input, serialised. No IO here."""

from __future__ import annotations

from typing import Any

from tfx_encore.gateway.errors import invalid


def examples_of(message: Any) -> list[bytes]:
    """Returns the serialised Examples of an `Input`, at least one.

    A context is put before each Example as bytes, which protobuf reads as a merge: a feature that
    both name is the Example's (tensorflow_serving/servables/tensorflow/util.cc,
    InputToSerializedExampleTensor).

    Args:
        message: a tensorflow.serving.Input.

    Raises:
        ServingError: INVALID_ARGUMENT, there is no Example.
    """
    kind = message.WhichOneof("kind")
    context = b""
    examples = []
    if kind == "example_list":
        examples = message.example_list.examples
    elif kind == "example_list_with_context":
        examples = message.example_list_with_context.examples
        context = message.example_list_with_context.context.SerializeToString()
    if not examples:
        raise invalid("Input is empty.")
    if context:
        return [context + example.SerializeToString() for example in examples]
    return [example.SerializeToString() for example in examples]
