"""Reading serialised requests. No IO here."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from tfx_encore.gateway.errors import Code, ServingError


def read(kind: Any, data: bytes) -> Any:
    """Returns a message from its bytes.

    Args:
        kind: the message's class.
        data: its serialised form.

    Raises:
        ServingError: INTERNAL, it cannot be read: the code of the C++ server.
    """
    message = kind()
    try:
        # Python's protobuf stops at a stray end of a group and only warns; C++ refuses.
        if message.MergeFromString(data) == len(data):
            return message
    except DecodeError:
        pass
    name = kind.DESCRIPTOR.full_name
    raise ServingError(Code.INTERNAL, f"Unable to parse the request as {name}.")
