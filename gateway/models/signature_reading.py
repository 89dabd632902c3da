"""Signatures from SignatureDefs, as GetModelMetadata and a SavedModel have them. No IO here.

Works on any message with the fields of tensorflow.SignatureDef.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfx_encore.gateway.signature import Signature, TensorSpec

_OWN = "__saved_model"  # TensorFlow's own signatures (tensorflow/cc/saved_model/constants.h)

# Number in tensorflow.DataType -> name (tensorflow/core/framework/types.proto).
_NAMES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    29: "int4",
    30: "uint4",
}


def signatures_of(definitions: Mapping[str, Any]) -> dict[str, Signature]:
    """Returns the signatures that can be asked for, by name.

    Args:
        definitions: name -> tensorflow.SignatureDef; TensorFlow's own are left out.
    """
    return {
        name: Signature(
            name,
            definition.method_name,
            {key: _spec(info) for key, info in sorted(definition.inputs.items())},
            {key: _spec(info) for key, info in sorted(definition.outputs.items())},
        )
        for name, definition in sorted(definitions.items())
        if not name.startswith(_OWN)
    }


def _spec(info: Any) -> TensorSpec:
    shape = info.tensor_shape
    dims = None if shape.unknown_rank else tuple(int(dim.size) for dim in shape.dim)
    return TensorSpec(_NAMES.get(info.dtype, f"data type {info.dtype}"), dims)
