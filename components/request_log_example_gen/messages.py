"""Rows of serialised requests and scores of serialised responses, remembered as they repeat."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from tfx_encore.cache.example_wire import RawFeature
from tfx_encore.cache.tf_example import features_of
from tfx_encore.cache.tf_predict import DEFAULT_SIGNATURE, tensor_values
from tfx_encore.components.request_log_example_gen.example_bytes import EncodedRow, RowEncoder
from tfx_encore.components.request_log_example_gen.log_wire import (
    CLASSIFY,
    MULTI,
    PREDICT,
    REGRESS,
)
from tfx_encore.components.request_log_example_gen.tensors import one_value, rows_of_inputs
from tfx_encore.schemas.errors import DataError

_STRING = 7  # in tensorflow.DataType
_POSITIVE = "1"  # label of the class whose score is served
_REMEMBERED = 100_000  # requests, and answers: at most 100 MiB, of rows of 17 features
_LONGEST_REMEMBERED = 4096  # bytes of one


@dataclass(frozen=True)
class Wanted:
    """Which records are evaluated, and how they are read.

    Attributes:
        model: the model's name; records of others are passed over. "" takes any.
        signatures: whose requests are evaluated; of Predict, Classify, Regress alike.
        prediction_key: the output with the score; "" for the only one.
        kinds: as in `RowEncoder`.
        join: as in `RowEncoder`.
    """

    model: str
    signatures: tuple[str, ...]
    prediction_key: str = ""
    kinds: dict[str, str] | None = None
    join: tuple[str, ...] = ()


class Asked(NamedTuple):
    """What a request says: the signature it names, "" if none, and its rows."""

    signature: str
    rows: list[EncodedRow]


class Served(NamedTuple):
    """What a response says: signature and version, "" and 0 if it names none; scores in [0, 1]."""

    signature: str
    version: int
    scores: list[float]


class NotALogError(DataError):
    """The bytes are no PredictionLog."""


class UnusableError(DataError):
    """A request or an answer that is sound but cannot be evaluated; says why in few words."""


class MessageReader:
    """Reads requests and responses.

    Args:
        wanted: how.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._encoder = RowEncoder(wanted.kinds, wanted.join)
        self._asked: dict[bytes, Asked] = {}
        self._served: dict[bytes, Served] = {}

    def asked(self, kind: str, request: bytes) -> Asked:
        """Reads a request.

        Args:
            kind: field of the PredictionLog.
            request: serialised.

        Raises:
            UnusableError: it holds no rows of the schema's types.
            NotALogError: it is no such message.
        """
        # Equal bytes are equal messages; unequal bytes of equal messages only cost time.
        place = _digest(kind, request)
        found = self._asked.get(place)
        if found is None:
            message = _parsed(_REQUESTS[kind], request)
            rows = self._predict_rows(message) if kind == PREDICT else self._input_rows(message)
            signature = "" if kind == MULTI else message.model_spec.signature_name
            found = Asked(signature, rows)
            _remember(self._asked, place, found, request)
        return found

    def served(self, kind: str, response: bytes) -> Served:
        """Reads a response.

        Args:
            kind: field of the PredictionLog.
            response: serialised.

        Raises:
            UnusableError: it does not hold one probability for each row.
            NotALogError: it is no such message.
        """
        place = _digest(kind, response)
        found = self._served.get(place)
        if found is None:
            found = _SCORES[kind](self._wanted, _parsed(_RESPONSES[kind], response))
            if not all(0.0 <= score <= 1.0 for score in found.scores):
                raise UnusableError("a score that is not in [0, 1]")
            _remember(self._served, place, found, response)
        return found

    def _predict_rows(self, request: Any) -> list[EncodedRow]:
        inputs = request.inputs
        if len(inputs) == 1:
            ((name, proto),) = inputs.items()
            # A lone vector of strings that is no feature holds Examples.
            if proto.dtype == _STRING and name not in (self._wanted.kinds or {}):
                one = one_value(proto)
                examples = _values(proto).ravel() if one is None else (one,)
                return [self._row(_features(data)) for data in examples]
        return [self._row(row) for row in rows_of_inputs(inputs)]

    def _input_rows(self, request: Any) -> list[EncodedRow]:
        """Rows of a tensorflow.serving.Input; an Example's features go before the context's."""
        given = request.input
        if given.WhichOneof("kind") == "example_list_with_context":
            listed = given.example_list_with_context
            context = listed.context.SerializeToString()
        else:
            listed, context = given.example_list, b""
        # Messages one after the other are merged by whoever parses them.
        examples = (context + example.SerializeToString() for example in listed.examples)
        return [self._row(_features(data)) for data in examples]

    def _row(self, found: dict[str, RawFeature]) -> EncodedRow:
        try:
            return self._encoder.row(found)
        except DataError as error:
            raise UnusableError(str(error)) from error


def _predicted(wanted: Wanted, response: Any) -> Served:
    outputs, key = response.outputs, wanted.prediction_key
    if key and key in outputs:
        proto = outputs[key]
    elif len(outputs) == 1:
        (proto,) = outputs.values()
    elif key:
        raise UnusableError(f"no output {key}")
    else:
        raise UnusableError("several outputs, and no prediction_key")
    one = one_value(proto)
    if isinstance(one, float):
        return _served(response, [one])
    values = _values(proto)
    if values.dtype == object or values.ndim not in {1, 2} or values.size != len(values):
        raise UnusableError("the output is not one number for each row")
    return _served(response, [float(value) for value in values.ravel()])


def _classified(_wanted: Wanted, response: Any) -> Served:
    return _served(response, _class_scores(response.result))


def _regressed(_wanted: Wanted, response: Any) -> Served:
    return _served(response, [item.value for item in response.result.regressions])


def _inferred(wanted: Wanted, response: Any) -> Served:
    """The result of a MultiInference, if one alone is wanted."""
    found = [
        result
        for result in response.results
        if (result.model_spec.signature_name or DEFAULT_SIGNATURE) in wanted.signatures
    ]
    if len(found) != 1:
        raise UnusableError(f"a MultiInference with {len(found)} results to evaluate")
    (result,) = found
    if result.HasField("classification_result"):
        return _served(result, _class_scores(result.classification_result))
    return _served(result, [item.value for item in result.regression_result.regressions])


_REQUESTS = {
    PREDICT: predict_pb2.PredictRequest,
    CLASSIFY: classification_pb2.ClassificationRequest,
    REGRESS: regression_pb2.RegressionRequest,
    MULTI: inference_pb2.MultiInferenceRequest,
}
_RESPONSES = {
    PREDICT: predict_pb2.PredictResponse,
    CLASSIFY: classification_pb2.ClassificationResponse,
    REGRESS: regression_pb2.RegressionResponse,
    MULTI: inference_pb2.MultiInferenceResponse,
}
# A kind's bytes are told from another's by them.
_PERSONS = {kind: kind.encode()[:16] for kind in _REQUESTS}
_SCORES: dict[str, Callable[[Wanted, Any], Served]] = {
    PREDICT: _predicted,
    CLASSIFY: _classified,
    REGRESS: _regressed,
    MULTI: _inferred,
}


def _served(said: Any, scores: list[float]) -> Served:
    spec = said.model_spec
    return Served(spec.signature_name, int(spec.version.value), scores)


def _class_scores(result: Any) -> list[float]:
    """Score of the class labelled `1`; where none is, of the last."""
    scores = []
    for item in result.classifications:
        if not item.classes:
            raise UnusableError("a classification without classes")
        named = [found.score for found in item.classes if found.label == _POSITIVE]
        scores.append(named[0] if named else item.classes[-1].score)
    return scores


def _parsed(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise NotALogError(f"not a {kind.DESCRIPTOR.name}") from error


def _features(data: bytes) -> dict[str, RawFeature]:
    try:
        return features_of(data)
    except DataError as error:
        raise UnusableError("an Example that cannot be read") from error


def _values(proto: Any) -> Any:
    try:
        return tensor_values(proto)
    except DataError as error:
        raise UnusableError("a tensor that cannot be read") from error


def _digest(kind: str, data: bytes) -> bytes:
    """Stands for the bytes of a message: a quarter of the memory that they would take."""
    return hashlib.blake2b(data, digest_size=16, person=_PERSONS[kind]).digest()


def _remember(memo: dict[bytes, Any], place: bytes, value: Any, data: bytes) -> None:
    if len(data) <= _LONGEST_REMEMBERED:
        if len(memo) >= _REMEMBERED:
            memo.clear()
        memo[place] = value
