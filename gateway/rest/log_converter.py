"""Requests that came as JSON, and their answers, as the messages that the request log holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tensorflow_serving.apis import (
    classification_pb2,
    predict_pb2,
    regression_pb2,
)

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.request_log_converter import Converted, Converter
from tfx_encore.gateway.request_record import RequestRecord
from tfx_encore.gateway.rest.json_examples import parse_examples
from tfx_encore.gateway.rest.json_request import parse_predict
from tfx_encore.gateway.signature import DEFAULT_SIGNATURE, Signature
from tfx_encore.gateway.tensor_proto import to_proto

SignatureOf = Callable[[str, int, str], "Signature | None"]
"""Model, version and name of a signature -> the signature, while the version is loaded."""


def make_converter(signature_of: SignatureOf) -> Converter:
    """Returns what makes messages of `rest` records.

    Args:
        signature_of: asked in the thread of the request log.
    """

    def convert(record: RequestRecord) -> Converted:
        makers = {"Predict": _predict, "Classify": _classify, "Regress": _regress}
        return makers[record.method](record, signature_of)

    return convert


def _predict(record: RequestRecord, signature_of: SignatureOf) -> Converted:
    specs = _Specs(record, signature_of)
    parsed = parse_predict(record.request, lambda name: specs.signature(name).inputs)
    request = predict_pb2.PredictRequest()
    _name(request.model_spec, record, parsed.signature)
    for name, array in parsed.inputs.items():
        request.inputs[name].CopyFrom(to_proto(array))
    if not record.response:
        return Converted(request)
    response = predict_pb2.PredictResponse()
    _name(response.model_spec, record, parsed.signature)
    for name, array in _outputs(record, specs.signature(parsed.signature)).items():
        response.outputs[name].CopyFrom(to_proto(array))
    return Converted(request, response)


def _outputs(record: RequestRecord, signature: Signature) -> Mapping[str, Any]:
    """Reads an answer back: it is written as a request for its outputs would be."""
    body = record.response.replace(b'"predictions"', b'"instances"', 1)
    if body is record.response or body == record.response:
        body = record.response.replace(b'"outputs"', b'"inputs"', 1)
    return parse_predict(body, lambda _: signature.outputs).inputs


def _classify(record: RequestRecord, signature_of: SignatureOf) -> Converted:
    del signature_of
    request = classification_pb2.ClassificationRequest()
    _examples(request, record)
    if not record.response:
        return Converted(request)
    response = classification_pb2.ClassificationResponse()
    response.model_spec.CopyFrom(request.model_spec)
    for row in json.loads(record.response)["results"]:
        classes = response.result.classifications.add().classes
        for label, score in row:
            classes.add(label=label, score=float(score))
    return Converted(request, response)


def _regress(record: RequestRecord, signature_of: SignatureOf) -> Converted:
    del signature_of
    request = regression_pb2.RegressionRequest()
    _examples(request, record)
    if not record.response:
        return Converted(request)
    response = regression_pb2.RegressionResponse()
    response.model_spec.CopyFrom(request.model_spec)
    for value in json.loads(record.response)["results"]:
        response.result.regressions.add(value=float(value))
    return Converted(request, response)


def _examples(request: Any, record: RequestRecord) -> None:
    signature, examples = parse_examples(record.request)
    _name(request.model_spec, record, signature)
    for example in examples:
        request.input.example_list.examples.add().MergeFromString(example)


def _name(spec: Any, record: RequestRecord, signature: str) -> None:
    spec.name = record.model
    spec.signature_name = record.signature or signature or DEFAULT_SIGNATURE
    if record.version:
        spec.version.value = record.version


class _Specs:
    """The signatures of the version that answered a record."""

    def __init__(self, record: RequestRecord, signature_of: SignatureOf) -> None:
        self._record = record
        self._signature_of = signature_of

    def signature(self, name: str) -> Signature:
        """Returns a signature.

        Raises:
            ServingError: the version is loaded no more, or never had it.
        """
        record = self._record
        wanted = name or DEFAULT_SIGNATURE
        found = self._signature_of(record.model, record.version, wanted)
        if found is None:
            raise ServingError(
                Code.NOT_FOUND, f"{record.model} version {record.version} has no {wanted!r} now"
            )
        return found
