"""PredictionService.Predict: from a serialised PredictRequest to a serialised PredictResponse.

What is refused, in which order and in which words: tensorflow_serving/servables/tensorflow/
predict_util.cc and tensorflow/cc/saved_model/util.cc (GetInputValues).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorflow_serving.apis import predict_pb2

from tfx_encore.gateway.errors import invalid
from tfx_encore.gateway.inference import Attempt
from tfx_encore.gateway.prediction import Prediction
from tfx_encore.gateway.routing import Router
from tfx_encore.gateway.rpc.call import Call, Done
from tfx_encore.gateway.rpc.messages import read
from tfx_encore.gateway.rpc.model_spec import answer_spec, given_spec, target_of
from tfx_encore.gateway.rpc.quick_rows import RowMakers
from tfx_encore.gateway.rpc.tensor_writer import OutputsWriter
from tfx_encore.gateway.servable import Servable
from tfx_encore.gateway.signature import Array, Signature
from tfx_encore.gateway.tensor_proto import field, to_tensors


class Predict:
    """The method.

    Args:
        router: knows which version answers.
        makers: make the rows that a hit needs.
    """

    name = "Predict"

    def __init__(self, router: Router, makers: RowMakers) -> None:
        self._router = router
        self._makers = makers
        self._writer = OutputsWriter()

    def open(self, call: Call) -> PredictWork:
        """Reads a request; see `call.Method`."""
        request = read(predict_pb2.PredictRequest, call.request)
        spec = given_spec(request)
        call.model, call.label = spec.name, spec.version_label
        pointer = self._router.pointer(target_of(spec))
        servable = call.servable = pointer.target
        assert servable is not None  # `pointer` raises where there is none
        signature = servable.signature(spec.signature_name)
        call.signature = signature.name
        inputs = request.inputs
        maker = self._makers.of(servable, signature)
        rows = maker.of_inputs(inputs) if maker else None
        made: dict[str, Array] = {}

        def tensors() -> Mapping[str, Array]:
            if not made:
                made.update(read_inputs(servable, signature, inputs))
            return made

        if rows is None:
            tensors()  # what is wrong with the inputs is said before what is wrong with the filter
        attempt = Attempt(pointer, signature.name, request.output_filter, tensors, rows)
        return PredictWork(attempt, spec.name, self._writer)


class PredictWork:
    """One request; see `call.Work`."""

    def __init__(self, attempt: Attempt, model: str, writer: OutputsWriter) -> None:
        self._attempt = attempt
        self._model = model
        self._writer = writer

    def now(self) -> Done | None:
        """Returns the response if the local tiers have every row."""
        prediction = self._attempt.now()
        return None if prediction is None else self._done(prediction)

    async def finish(self) -> Done:
        """Returns the response, computing what is missing."""
        return self._done(await self._attempt.finish())

    def _done(self, prediction: Prediction) -> Done:
        servable, signature = prediction.servable, prediction.signature.name
        spec = answer_spec(self._model, servable.version, signature)
        body = self._writer.write(prediction) + field(2, spec)
        return Done(
            body,
            prediction.status,
            prediction.rows,
            prediction.hits,
            prediction.freshness,
            prediction.hit_rows(),
        )


def read_inputs(
    servable: Servable, signature: Signature, inputs: Mapping[str, Any]
) -> dict[str, Array]:
    """Returns the inputs of a request, those left out by their defaults.

    Raises:
        ServingError: INVALID_ARGUMENT, too many or too few, unknown, or one cannot be read.
    """
    definition = servable.model.signature_def.get(signature.name)
    defaults = getattr(definition, "defaults", {})
    _check_size(signature, inputs, bool(defaults))
    given: dict[str, Any] = {}
    for name in signature.inputs:
        if name in inputs:
            given[name] = inputs[name]
        elif name in defaults:
            given[name] = defaults[name]
        else:
            raise invalid(_missing(name, definition, inputs, defaults))
    tensors = to_tensors(given, given)
    unknown = set(inputs) - set(signature.inputs)
    if unknown:
        raise invalid(
            "Inputs contains invalid name. Used request inputs: "
            f"{','.join(sorted(set(inputs) - unknown))}, request input: "
            f"{','.join(sorted(inputs))}"
        )
    return tensors


def _check_size(signature: Signature, inputs: Mapping[str, Any], has_defaults: bool) -> None:
    sent, wanted = set(inputs), set(signature.inputs)
    if len(sent) > len(wanted) or (len(sent) < len(wanted) and not has_defaults):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(wanted)} "
            f"len({_names(sent)}) != len({_names(wanted)}). Sent extra: {_names(sent - wanted)}. "
            f"Missing but required: {_names(wanted - sent)}."
        )


def _missing(name: str, definition: Any, inputs: Mapping[str, Any], defaults: Any) -> str:
    feed = "" if definition is None else definition.inputs[name].name
    return (
        f"Signature input alias: {name}(feed name: {feed}) not found in request and no default "
        f"value provided. Inputs expected to be in the request {_names(set(inputs))}, or default "
        f"input alias set: {','.join(sorted(defaults))}"
    )


def _names(names: set[str]) -> str:
    return f"{{{','.join(sorted(names))}}}"
