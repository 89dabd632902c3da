"""Decimal numbers as TensorFlow Serving writes them. No IO here.

util/json_tensor.cc, WriteDecimal: six digits (absl::StrCat of a float, which is printf's `%g`) if
they give the number back, else nine digits for a float and seventeen for a double; `.0` after whole
numbers that are not in scientific notation; `NaN`, `Infinity`, `-Infinity`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from tfx_encore.gateway.signature import Array

_FLOAT = struct.Struct("<f")
_DIGITS = {"float32": "%.9g", "float64": "%.17g"}
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def decimal32(value: float) -> str:
    """Returns a float; `value` is one, as Python holds it."""
    text = "%g" % value  # noqa: UP031 - the format is printf's
    if text in _NOT_FINITE:
        return _NOT_FINITE[text]
    try:
        same = _FLOAT.unpack(_FLOAT.pack(float(text)))[0] == value
    except OverflowError:
        same = False
    return whole(text if same else "%.9g" % value)  # noqa: UP031


def decimal64(value: float) -> str:
    """Returns a double."""
    text = "%g" % value  # noqa: UP031
    if text in _NOT_FINITE:
        return _NOT_FINITE[text]
    return whole(text if float(text) == value else "%.17g" % value)  # noqa: UP031


def whole(text: str) -> str:
    """Returns a number with `.0` if it would else look like an integer."""
    return text if "." in text or "e" in text else text + ".0"


def decimals(values: Array) -> list[str]:
    """Returns the numbers of an array, of float32 or float64, in C order."""
    flat = values.ravel()
    numbers: list[float] = flat.tolist()
    if len(numbers) < 16:
        return list(map(decimal32 if flat.dtype == np.float32 else decimal64, numbers))
    short = ("%g " * len(numbers) % tuple(numbers)).split()
    with np.errstate(over="ignore"):
        again = np.array(short, dtype=np.float64).astype(flat.dtype)
    return _finish(short, numbers, np.nonzero(again != flat)[0].tolist(), flat.dtype.name)


def _finish(short: list[str], numbers: list[float], other: Sequence[int], dtype: str) -> list[str]:
    """Writes the numbers at `other`, which six digits do not give back, with all of theirs."""
    form = _DIGITS[dtype]
    long = (f"{form} " * len(other) % tuple([numbers[place] for place in other])).split()
    for place, text in zip(other, long, strict=True):
        short[place] = text
    return [_NOT_FINITE.get(text) or whole(text) for text in short]
