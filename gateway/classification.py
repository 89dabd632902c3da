"""What Classify and Regress demand of a signature, and their results. Needs the protos.

The rules, their order and their words are those of tensorflow_serving/servables/tensorflow/
classifier.cc and regressor.cc with `--enable_signature_method_name_check=false`, its default: what
counts are the names of inputs and outputs, not the signature's method name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorflow_serving.apis import classification_pb2, regression_pb2

from tfx_encore.gateway.errors import invalid
from tfx_encore.gateway.signature import DEFAULT_SIGNATURE, Array, Signature, Tensors

INPUTS = "inputs"
CLASSES = "classes"
SCORES = "scores"
OUTPUTS = "outputs"


def example_signature(signatures: Mapping[str, Signature], name: str) -> Signature:
    """Returns the signature that a Classify or Regress request names; empty for the default one.

    Raises:
        ServingError: INVALID_ARGUMENT, the model has none of this name.
    """
    found = signatures.get(name or DEFAULT_SIGNATURE)
    if found is None:
        raise invalid(f"No signature was found with the name: {name or DEFAULT_SIGNATURE}")
    return found


def classify_signature_check(signature: Signature, definition: object = "") -> tuple[str, ...]:
    """Checks that a signature can classify; returns the outputs to compute.

    Args:
        signature: the one asked for.
        definition: its SignatureDef, shown in messages.

    Raises:
        ServingError: INVALID_ARGUMENT, it cannot.
    """
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {definition}")
    wanted = tuple(name for name in (CLASSES, SCORES) if name in signature.outputs)
    if not wanted:
        raise invalid(
            "Expected classification signature outputs to contain at least one of "
            f'"{CLASSES}" or "{SCORES}". Signature was: {definition}'
        )
    return wanted


def regress_signature_check(signature: Signature, definition: object = "") -> tuple[str, ...]:
    """Checks that a signature can regress; returns the outputs to compute.

    Args:
        signature: the one asked for.
        definition: its SignatureDef, shown in messages.

    Raises:
        ServingError: INVALID_ARGUMENT, it cannot.
    """
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {definition}")
    if OUTPUTS not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {definition}")
    return (OUTPUTS,)


def classify_result(
    signature: Signature, outputs: Tensors, rows: int
) -> classification_pb2.ClassificationResult:
    """Returns the classes and scores of each Example.

    Args:
        signature: that answered; it passed `classify_signature_check`.
        outputs: `classes` (strings) and `scores` (float32), or one of them, shape [rows, classes].
        rows: number of Examples.

    Raises:
        ServingError: INVALID_ARGUMENT, an output is of another dtype or shape.
    """
    del signature
    classes, scores = outputs.get(CLASSES), outputs.get(SCORES)
    if classes is not None:
        _check_classification(CLASSES, classes, rows)
    if scores is not None:
        _check_classification(SCORES, scores, rows)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid(
            "Tensors class and score should match in dim_size(1). Got "
            f"{classes.shape[1]} vs. {scores.shape[1]}"
        )
    result = classification_pb2.ClassificationResult()
    labels = [None] * rows if classes is None else classes.tolist()
    values = [None] * rows if scores is None else scores.tolist()
    for row_labels, row_values in zip(labels, values, strict=True):
        _add_classes(result.classifications.add(), row_labels, row_values)
    return result


def regress_result(
    signature: Signature, outputs: Tensors, rows: int
) -> regression_pb2.RegressionResult:
    """Returns the value of each Example.

    Args:
        signature: that answered; it passed `regress_signature_check`.
        outputs: `outputs`, float32, shape [rows] or [rows, 1].
        rows: number of Examples.

    Raises:
        ServingError: INVALID_ARGUMENT, the output is of another dtype or shape.
    """
    del signature
    values = outputs[OUTPUTS]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape(values)}"
        )
    if len(values) != rows:
        raise invalid(f"Input batch size did not match output batch size: {rows} vs. {len(values)}")
    if values.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_dtype(values)}")
    result = regression_pb2.RegressionResult()
    for value in values.reshape(-1).tolist():
        result.regressions.add().value = value
    return result


def _check_classification(name: str, values: Array, rows: int) -> None:
    if values.ndim != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(values)}")
    wanted = "DT_STRING" if name == CLASSES else "DT_FLOAT"
    if _dtype(values) != wanted:
        raise invalid(f"Expected {name} Tensor of {wanted}. Got: {_dtype(values)}")
    if len(values) != rows:
        raise invalid(f"Expected {name} output batch size of {rows}. Got: {len(values)}")


def _add_classes(target: Any, labels: list[bytes] | None, scores: list[float] | None) -> None:
    add = target.classes.add
    for place in range(len(labels if labels is not None else scores or ())):
        item = add()
        if labels is not None:
            item.label = _text(labels[place])
        if scores is not None:
            item.score = scores[place]


def _text(label: bytes) -> str:
    try:
        return label.decode("utf-8")
    except UnicodeDecodeError as error:
        # The C++ server sends it as it is, and clients fail to read the whole response.
        raise invalid(f"A class label is not UTF-8: {label!r}") from error


def _shape(values: Array) -> str:
    return f"[{','.join(map(str, values.shape))}]"


def _dtype(values: Array) -> str:
    names = {"object": "STRING", "float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF"}
    name = values.dtype.name
    return f"DT_{names.get(name, name.upper())}"
