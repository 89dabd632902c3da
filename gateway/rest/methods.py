"""Predict, Classify and Regress by REST: from a body to an attempt, from its answer to a body.

Errors come in the order of tensorflow_serving/model_servers/http_rest_api_handler.cc: first those
of the JSON, then of the model that is named, then of the signature and of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np

from tfx_encore.gateway.classification import (
    INPUTS,
    classify_result,
    classify_signature_check,
    example_signature,
    regress_result,
    regress_signature_check,
)
from tfx_encore.gateway.errors import invalid
from tfx_encore.gateway.inference import Attempt, RouteMoved
from tfx_encore.gateway.prediction import Prediction
from tfx_encore.gateway.rest.exchange import Exchange
from tfx_encore.gateway.rest.json_examples import (
    classification_json,
    parse_examples,
    regression_json,
)
from tfx_encore.gateway.rest.json_request import parse_predict
from tfx_encore.gateway.rest.json_response import AnswerWriter, predict_json
from tfx_encore.gateway.rest.quick_predict import RowsRead
from tfx_encore.gateway.routing import Pointer
from tfx_encore.gateway.servable import Servable
from tfx_encore.gateway.signature import DEFAULT_SIGNATURE, Tensors, TensorSpec

PointerOf = Callable[[], Pointer]
"""Returns the pointer of what a request names, or raises that there is nothing."""


class Work(NamedTuple):
    """A request that was read.

    Attributes:
        attempt: to answer it.
        body: makes the body of the response.
    """

    attempt: Attempt
    body: Callable[[Prediction], bytes]


class Predict:
    """The method.

    Args:
        writer: of answers in the row format; None where another thread may use it.

    Attributes:
        writer: the same; it may be replaced.
    """

    name = "Predict"

    def __init__(self, writer: AnswerWriter | None = None) -> None:
        self.writer = writer

    def open_rows(self, exchange: Exchange, read: RowsRead) -> Work:
        """Goes on with a request that was read by its rows.

        Raises:
            ServingError: it is refused.
            RouteMoved: what it names is gone by now.
        """
        servable, name, body = read.ready.servable, read.ready.name, exchange.body
        exchange.servable, exchange.signature = servable, name
        parsed: list[Tensors] = []

        def tensors() -> Tensors:
            if not parsed:
                parsed.append(parse_predict(body, lambda asked: _inputs(servable, asked)).inputs)
            return parsed[0]

        attempt = Attempt(read.pointer, name, (), tensors, read.rows)
        return Work(attempt, lambda prediction: self._body("row", prediction))

    def open(self, exchange: Exchange, pointer_of: PointerOf) -> Work:
        """Reads a request.

        Raises:
            ServingError: it is refused.
            RouteMoved: what it names is gone by now.
        """
        found: list[Pointer] = []

        def inputs_of(name: str) -> Mapping[str, TensorSpec]:
            pointer = pointer_of()
            found[:] = [pointer]
            exchange.servable = _target(pointer)
            return _inputs(exchange.servable, name)

        parsed = parse_predict(exchange.body, inputs_of)
        exchange.signature = parsed.signature or DEFAULT_SIGNATURE
        attempt = Attempt(found[0], parsed.signature, (), lambda: parsed.inputs)
        return Work(attempt, lambda prediction: self._body(parsed.format, prediction))

    def _body(self, form: Literal["row", "columnar"], prediction: Prediction) -> bytes:
        if self.writer is not None and form == "row" and prediction.mode == "rows":
            return self.writer.write([answer.data for answer in prediction.answers])
        return predict_json(prediction.tensors(), form)


class Examples:
    """Classify or Regress.

    Args:
        name: of the method.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._is_classify = name == "Classify"

    def open(self, exchange: Exchange, pointer_of: PointerOf) -> Work:
        """Reads a request; see `Predict.open`."""
        name, examples = parse_examples(exchange.body)
        pointer = pointer_of()
        servable = exchange.servable = _target(pointer)
        signature = example_signature(servable.model.signatures, name)
        exchange.signature = signature.name
        check = classify_signature_check if self._is_classify else regress_signature_check
        outputs = check(signature, servable.model.signature_def.get(signature.name, ""))
        if not examples:
            raise invalid("Input is empty.")
        vector = np.empty(len(examples), dtype=object)
        vector[:] = examples
        # Naming every output is naming none: such answers are those of Predict.
        wanted = () if len(outputs) == len(signature.outputs) else outputs
        attempt = Attempt(pointer, signature.name, wanted, lambda: {INPUTS: vector})

        def body(prediction: Prediction) -> bytes:
            if self._is_classify:
                result = classify_result(signature, prediction.tensors(), len(examples))
                return classification_json(result)
            return regression_json(regress_result(signature, prediction.tensors(), len(examples)))

        return Work(attempt, body)


def _target(pointer: Pointer) -> Servable:
    """What a pointer points at; a switch may come between two looks of another thread."""
    servable = pointer.target
    if servable is None:
        raise RouteMoved
    return servable


def _inputs(servable: Servable, name: str) -> Mapping[str, TensorSpec]:
    """The inputs of a signature (http_rest_api_handler.cc, GetInfoMap)."""
    wanted = name or DEFAULT_SIGNATURE
    signature = servable.model.signatures.get(wanted)
    if signature is None:
        raise invalid(f'Serving signature name: "{wanted}" not found in signature def')
    return signature.inputs
