"""Rows to try a signature with: from warm-up requests, or made up from what it takes. No IO here.

A row is what `join` makes a batch of: the value of each input without the batch dimension.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.rows import cell
from tfx_encore.cache.tf_example import example_of_row
from tfx_encore.gateway.signature import Array, Signature, Tensors, TensorSpec

SampleRow = Mapping[str, Array]

# A dimension that varies takes this size; the second is tried if the model refuses the first.
FREE_SIZES = (3, 1)

_MAX_WORD_BYTES = 64
_WORDS = (b"", b"a", b"0", b"1", b"7", b"cash", b"The quick brown fox", "žluťoučký".encode())


def batch_problem(signature: Signature) -> str:
    """Returns why requests cannot be cut into rows by what is declared; empty if they can."""
    if not signature.inputs:
        return "it takes no inputs"
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for name, spec in tensors.items():
            if kind == "output" and spec.shape is None:
                continue  # seen when it is computed
            if not spec.shape or spec.shape[0] != -1:
                shape = "unknown rank" if spec.shape is None else f"shape {list(spec.shape)}"
                return f"{kind} {name!r} of {shape} has no dimension for the rows"
    return ""


def spec_of(signature: Signature) -> SignatureSpec:
    """Returns how rows are made where nothing is known of the graph: all inputs, as they come."""
    features = tuple(
        FeatureSpec(name, "tensor", spec.dtype, (spec.shape or ())[1:])
        for name, spec in sorted(signature.inputs.items())
    )
    return SignatureSpec(signature.name, "tensors", "", features)


def split(inputs: Tensors) -> list[SampleRow]:
    """Cuts a request into rows; none if its inputs have different lengths."""
    lengths = {len(array) if array.ndim else -1 for array in inputs.values()}
    if len(lengths) != 1 or -1 in lengths:
        return []
    return [
        {name: _element(array, at) for name, array in inputs.items()} for at in range(lengths.pop())
    ]


def join(rows: Sequence[SampleRow]) -> dict[str, Array]:
    """Makes one request of rows of the same shapes."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def distinct(rows: Iterable[SampleRow], most: int) -> list[SampleRow]:
    """Returns the first rows that differ from each other and have the shapes of the first."""
    found: dict[Any, SampleRow] = {}
    shapes = None
    for row in rows:
        these = {name: array.shape for name, array in row.items()}
        shapes = shapes or these
        if these == shapes:
            key = tuple((name, _bytes(row[name])) for name in sorted(row))
            found.setdefault(key, row)
        if len(found) == most:
            break
    return list(found.values())


def made_up(
    signature: Signature, spec: SignatureSpec, count: int, words: Sequence[bytes], free_size: int
) -> list[SampleRow]:
    """Makes rows of random values, the same in each run.

    Args:
        signature: what is to be asked.
        spec: its rows; the features that it parses, if it takes Examples.
        count: how many rows; some may be equal.
        words: texts that the model may know.
        free_size: of dimensions that vary.

    Returns:
        Rows; none where it is not known which features the signature parses.
    """
    rng = np.random.default_rng(0)
    # Protobuf gives the entries of a map in any order, another one each time.
    known = [*_WORDS, *sorted(word for word in words if len(word) <= _MAX_WORD_BYTES)]
    if spec.form == "opaque":
        return []
    if spec.form == "examples":
        return [{spec.input_name: scalar(_example(rng, spec, known, at))} for at in range(count)]
    return [
        {
            name: _values(rng, info.dtype, _sizes((info.shape or ())[1:], free_size), known, at)
            for name, info in sorted(signature.inputs.items())
        }
        for at in range(count)
    ]


def made_up_request(signature: Signature, words: Sequence[bytes], free_size: int) -> Tensors:
    """Makes one whole request, whatever dimensions its inputs have; the same in each run."""
    rng = np.random.default_rng(0)
    known = [*_WORDS, *sorted(words)]

    def value(spec: TensorSpec) -> Array:
        return _values(rng, spec.dtype, _sizes(spec.shape or (), free_size), known, 1)

    return {name: value(spec) for name, spec in sorted(signature.inputs.items())}


def scalar(value: bytes) -> Array:
    """Returns one text as an array without dimensions."""
    array = np.empty((), dtype=object)
    array[()] = value
    return array


def _example(rng: np.random.Generator, spec: SignatureSpec, words: list[bytes], at: int) -> bytes:
    row = {}
    for feature in spec.features:
        shape = feature.shape if feature.kind == "dense" else (int(rng.integers(0, 3)),)
        row[feature.name] = cell(_values(rng, feature.dtype, shape, words, at), feature.dtype)
    return example_of_row(row, spec)


def _values(
    rng: np.random.Generator, dtype: str, shape: tuple[int, ...], words: list[bytes], at: int
) -> Array:
    """Random values; every other row is small, so that what serves as an index is in range."""
    size = math.prod(shape)
    if dtype == "string":
        array: Array = np.empty(size, dtype=object)
        array[:] = [words[place] for place in rng.integers(0, len(words), size)]
        return array.reshape(shape)
    target = _numpy_dtype(dtype)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    top = 2 if at % 2 else 100
    if target.kind in "iu":
        return rng.integers(0, top, shape).astype(target)
    return np.asarray(rng.normal(size=shape) * top / 2).astype(target)


def _numpy_dtype(dtype: str) -> np.dtype[Any]:
    """Raises: TypeError: numpy has no such numbers."""
    if dtype == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)


def _sizes(shape: Sequence[int], free_size: int) -> tuple[int, ...]:
    return tuple(free_size if dim < 0 else dim for dim in shape)


def _element(array: Array, at: int) -> Array:
    value = array[at]
    if isinstance(value, np.ndarray):
        return value
    return scalar(value) if array.dtype == object else np.asarray(value)


def _bytes(array: Array) -> tuple[Any, ...]:
    data = tuple(array.ravel().tolist()) if array.dtype == object else array.tobytes()
    return array.shape, data
