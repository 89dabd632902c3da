"""Between tensorflow.serving.ModelSpec and what it names. Needs the protos.

Codes and words as in tensorflow_serving/model_servers/server_core.cc, ServableRequestFromModelSpec,
and servables/tensorflow/util.cc, MakeModelSpec.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tfx_encore.gateway.errors import invalid
from tfx_encore.gateway.routing import Target
from tfx_encore.gateway.signature import DEFAULT_SIGNATURE
from tfx_encore.gateway.tensor_proto import field, varint


def given_spec(request: Any) -> Any:
    """Returns the ModelSpec of a request.

    Raises:
        ServingError: INVALID_ARGUMENT, it has none.
    """
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec


def target_of(spec: Any) -> Target:
    """Returns what a ModelSpec names.

    Raises:
        ServingError: INVALID_ARGUMENT, it names no model.
    """
    if not spec.name:
        raise invalid("ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    if choice is None:
        return Target(spec.name)
    if choice == "version":
        return Target(spec.name, version=spec.version.value)
    return Target(spec.name, label=spec.version_label)


@lru_cache(maxsize=1024)
def answer_spec(name: str, version: int, signature: str) -> bytes:
    """Returns the serialised ModelSpec of an answer.

    Args:
        name: of the model, as the request has it.
        version: that answered.
        signature: as the request has it; empty for the default one, whose name is filled in.
    """
    named = signature or DEFAULT_SIGNATURE
    return (
        field(1, name.encode())
        + field(2, b"\x08" + varint(version) if version else b"")
        + field(3, named.encode())
    )
