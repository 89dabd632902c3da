"""The values of tensors from the leaves of JSON: what a dtype takes, and what becomes of it.

util/json_tensor.cc, AddValueToTensor and JsonDecodeBase64Object; then what TensorFlow makes of the
message (framework/tensor.cc, FromProtoField). No IO here.

- Floats take any number: the nearest double of an integer, then the nearest float of that; too
  large a number becomes infinite.
- Integers take integers only. int8, int16 and uint8 take any 32-bit integer, of which they keep the
  lowest bits.
- Strings take text, or `{"b64": ...}`; booleans take booleans.
- No other dtype can be given as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from tfx_encore.gateway.errors import Code, ServingError, invalid
from tfx_encore.gateway.rest.json_base64 import unescape
from tfx_encore.gateway.rest.json_careful import Members
from tfx_encore.gateway.rest.json_debug import debug_string, dtype_name, type_name
from tfx_encore.gateway.rest.json_document import text_bytes
from tfx_encore.gateway.signature import Array

_INT32 = (-(2**31), 2**31 - 1)
INTEGERS = {
    "int8": _INT32,
    "int16": _INT32,
    "uint8": _INT32,
    "int32": _INT32,
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
"""Dtype -> the least and the greatest integer that JSON may hold for it."""
FLOATS = ("float32", "float64")
MAX_DIMENSIONS = 32
"""numpy's; TensorFlow's is 254, and few of its operations take so many."""

_NUMBERS = {float, int}


def is_base64(value: Any) -> bool:
    """True for an object that holds bytes: `b64` and nothing else, and a string in it."""
    return type(value) is dict and len(value) == 1 and isinstance(value.get("b64"), str)


def base64_bytes(value: dict[str, str]) -> bytes:
    """Returns the bytes that such an object holds.

    Raises:
        ServingError: INVALID_ARGUMENT, not in base 64.
    """
    data = unescape(text_bytes(value["b64"]))
    if data is None:
        raise invalid("Unable to base64 decode")
    return data


def even_leaves(values: list[Any]) -> tuple[tuple[int, ...], list[Any]] | None:
    """Returns the shape of evenly nested lists and their leaves in order; None if they are uneven.

    Lists deeper than numpy has dimensions count as uneven.
    """
    shape = [len(values)]
    level = values
    while level and type(level[0]) is list:
        lengths = set(map(len, level)) if set(map(type, level)) == {list} else set()
        if len(lengths) != 1 or len(shape) == MAX_DIMENSIONS:
            return None
        shape.append(lengths.pop())
        level = list(chain.from_iterable(level))
    return tuple(shape), level


def quick_values(leaves: list[Any], dtype: str) -> Array | None:
    """Returns the values of leaves, if all of them fit; None if one does not, or perhaps not."""
    kinds = set(map(type, leaves))
    if dtype in FLOATS:
        return to_values(leaves, dtype) if kinds <= _NUMBERS else None
    if dtype in INTEGERS:
        low, high = INTEGERS[dtype]
        fits = kinds <= {int} and (not leaves or (min(leaves) >= low and max(leaves) <= high))
        return to_values(leaves, dtype) if fits else None
    if dtype == "string":
        texts = _texts(leaves)
        return None if texts is None else to_values(texts, dtype)
    if dtype == "bool" and kinds <= {bool}:
        return to_values(leaves, dtype)
    return None


def _texts(leaves: list[Any]) -> list[bytes] | None:
    texts = []
    for leaf in leaves:
        if type(leaf) is str:
            texts.append(text_bytes(leaf))
            continue
        data = unescape(text_bytes(leaf["b64"])) if is_base64(leaf) else None
        if data is None:
            return None
        texts.append(data)
    return texts


def to_values(leaves: Sequence[Any], dtype: str) -> Array:
    """Returns an array [leaves] of leaves that have been checked."""
    if dtype == "string":
        array: Array = np.empty(len(leaves), dtype=object)
        array[:] = leaves
        return array
    if dtype == "float32":
        with np.errstate(over="ignore"):
            return np.array(leaves, dtype=np.float64).astype(np.float32)
    if dtype in ("int8", "int16", "uint8"):
        return np.array(leaves, dtype=np.int32).astype(dtype)
    return np.array(leaves, dtype=dtype)


def checked(value: Any, dtype: str) -> Any:
    """Returns a leaf for `to_values`.

    Raises:
        ServingError: INVALID_ARGUMENT, not of this dtype; UNIMPLEMENTED, a dtype that JSON cannot
            give.
    """
    if isinstance(value, (dict, Members)):
        return _checked_object(value, dtype)
    kind = type(value)
    if dtype in FLOATS:
        fits = kind in _NUMBERS
    elif dtype in INTEGERS:
        low, high = INTEGERS[dtype]
        fits = kind is int and low <= value <= high
    elif dtype == "string":
        if kind is str:
            return text_bytes(value)
        fits = False
    elif dtype == "bool":
        fits = kind is bool
    else:
        raise ServingError(
            Code.UNIMPLEMENTED,
            f"Conversion of JSON Value: {debug_string(value)} to type: {dtype_name(dtype)}",
        )
    if not fits:
        raise _type_error(value, dtype)
    return value


def _checked_object(value: dict[str, Any] | Members, dtype: str) -> bytes:
    if dtype != "string":
        raise _type_error(value, dtype)
    if not is_base64(value):
        raise invalid(f"JSON Value: {debug_string(value)} not formatted correctly for base64 data")
    return base64_bytes(value)  # type: ignore[arg-type] # Members are never base 64


def _type_error(value: Any, dtype: str) -> ServingError:
    return invalid(
        f"JSON Value: {debug_string(value)} Type: {type_name(value)} is not of expected type: "
        f"{dtype_name(dtype)}"
    )
