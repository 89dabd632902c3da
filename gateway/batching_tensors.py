"""Joins the tensors of several calls, and cuts the results apart again. No IO here.

As tensorflow_serving/batching/batching_session.cc and batching_util.cc do it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfx_encore.gateway.errors import Code, ServingError, invalid
from tfx_encore.gateway.signature import Array, Tensors

_Layout = tuple[tuple[str, object, tuple[int, ...] | int], ...]


def count_rows(inputs: Tensors) -> int:
    """Returns the rows of a call.

    Raises:
        ServingError: INVALID_ARGUMENT, the inputs do not have one number of rows.
    """
    rows = -1
    for array in inputs.values():
        shape = array.shape
        if not shape:
            raise invalid("Batching Run() input tensors must have at least one dimension")
        if shape[0] != rows:
            if rows >= 0:
                raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
            rows = shape[0]
    if rows < 0:
        raise invalid("Batching Run() must have at least one input tensor")
    return rows


def layout(inputs: Tensors, *, by_rank: bool) -> _Layout:
    """Returns what calls must have in common to be joined.

    Args:
        inputs: of one call.
        by_rank: True if inputs of other shapes, but equal rank, are padded.
    """
    if by_rank:
        return tuple((name, array.dtype, array.ndim) for name, array in sorted(inputs.items()))
    return tuple((name, array.dtype, array.shape[1:]) for name, array in sorted(inputs.items()))


def join(pieces: Sequence[Tensors], padding: int, *, to_largest: bool) -> Tensors:
    """Joins the rows of several calls in their order.

    Args:
        pieces: of equal layout, at least one.
        padding: how often a row is repeated at the end: the first of the last piece that has one.
        to_largest: pad the other dimensions to the largest, each piece by its first element.

    Raises:
        ServingError: INVALID_ARGUMENT, an empty tensor would have to be padded.
    """
    if len(pieces) == 1 and not padding:
        return pieces[0]
    return {
        name: _column([piece[name] for piece in pieces], padding, to_largest) for name in pieces[0]
    }


def _column(arrays: Sequence[Array], padding: int, to_largest: bool) -> Array:
    if to_largest:
        largest = np.max([array.shape[1:] for array in arrays], axis=0)
        arrays = [_grown(array, largest) for array in arrays]
    filled = [array for array in arrays if len(array)]
    if padding and filled:
        arrays = [*arrays, np.repeat(filled[-1][:1], padding, axis=0)]
    return np.concatenate(arrays)


def _grown(array: Array, largest: Array) -> Array:
    shape = (len(array), *(int(size) for size in largest))
    if array.shape == shape:
        return array
    if not array.size:
        raise invalid("Got empty tensor in batch of non-empty tensors.")
    grown = np.full(shape, array.flat[0], dtype=array.dtype)
    grown[tuple(slice(size) for size in array.shape)] = array
    return grown


def check_outputs(outputs: Mapping[str, Array], rows: int) -> None:
    """Checks that each output has one row for each row of the batch.

    Raises:
        ServingError: FAILED_PRECONDITION, it does not, so that nobody knows whose is what.
    """
    for array in outputs.values():
        shape = array.shape
        if not shape:
            raise ServingError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if shape[0] != rows:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                "dimension sizes of the input tensors",
            )


def rows_of(outputs: Mapping[str, Array], start: int, stop: int) -> dict[str, Array]:
    """Returns some rows of each output, sharing its memory."""
    return {name: array[start:stop] for name, array in outputs.items()}


def append(pieces: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Returns the results of one call that was cut, put together again."""
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
