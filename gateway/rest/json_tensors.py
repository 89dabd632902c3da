"""Tensors from nested lists, with TensorFlow Serving's errors. No IO here.

util/json_tensor.cc, GetDenseTensorShape, FillTensorProto and AddInstanceItem. A request that is
right goes by `json_leaves.even_leaves` and numpy; this is the exact way for the others. None of it
recurses, so that no depth is too great.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tfx_encore.gateway.errors import invalid
from tfx_encore.gateway.rest.json_debug import debug_string
from tfx_encore.gateway.rest.json_leaves import (
    MAX_DIMENSIONS,
    checked,
    even_leaves,
    quick_values,
    to_values,
)
from tfx_encore.gateway.signature import Array


def tensor(value: Any, name: str, dtype: str) -> Array:
    """Returns a value of any shape as a tensor.

    Raises:
        ServingError: INVALID_ARGUMENT, uneven, or a value that is not of the dtype.
    """
    even = even_leaves(value) if isinstance(value, list) else None
    if even is not None:
        quick = quick_values(even[1], dtype)
        if quick is not None:
            return quick.reshape(even[0])
    shape = shape_of(value)
    leaves: list[Any] = []
    fill(value, shape, dtype, leaves)
    return shaped(leaves, shape, name, dtype)


def shape_of(value: Any) -> tuple[int, ...]:
    """Returns the shape of nested lists by the first of each; () for anything else."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def shaped(leaves: list[Any], shape: tuple[int, ...], name: str, dtype: str) -> Array:
    """Returns checked leaves as a tensor.

    Raises:
        ServingError: INVALID_ARGUMENT, too many dimensions.
    """
    if len(shape) > MAX_DIMENSIONS:
        raise invalid(f"tensor parsing error: {name}")
    count = 1
    for size in shape:
        count *= size
    # There are more only if an instance repeats a name; TensorFlow takes the first.
    return to_values(leaves[:count], dtype).reshape(shape)


def fill(value: Any, shape: tuple[int, ...], dtype: str, leaves: list[Any]) -> int:
    """Appends the leaves of a value, checked; returns how many.

    Raises:
        ServingError: INVALID_ARGUMENT, another shape, or a leaf that is not of the dtype.
    """
    before = len(leaves)
    stack: list[Iterator[Any]] = [iter((value,))]
    while stack:
        level = len(stack) - 1
        for item in stack[-1]:
            if isinstance(item, list):
                _check_list(item, level, shape)
                stack.append(iter(item))
                break
            if level != len(shape):
                raise invalid(
                    f"JSON Value: {debug_string(item)} found at incorrect level: {level + 1} in "
                    f"the JSON DOM. Expected at level: {len(shape)}"
                )
            leaves.append(checked(item, dtype))
        else:
            stack.pop()
    return len(leaves) - before


def _check_list(item: list[Any], level: int, shape: tuple[int, ...]) -> None:
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(item) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(item)} at level: {level} expected size: "
            f"{shape[level]}"
        )
