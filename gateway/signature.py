"""What a model's signature takes and gives, without TensorFlow. No IO here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

DEFAULT_SIGNATURE = "serving_default"
PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"

Array = np.ndarray[Any, Any]
Tensors = Mapping[str, Array]
"""Name -> value; strings as object arrays of bytes, numbers in their own dtype."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a signature.

    Attributes:
        dtype: as TensorFlow names it: `float32`, `int64`, `string`...
        shape: -1 for a dimension that varies; None if even the rank is not known.
    """

    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Signature:
    """One signature of a loaded model.

    Attributes:
        name: its key in the SavedModel.
        method_name: `tensorflow/serving/predict`, `.../classify`, `.../regress`.
        inputs: name -> what it takes.
        outputs: name -> what it gives.
    """

    name: str
    method_name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
