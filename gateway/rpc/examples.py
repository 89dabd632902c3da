"""PredictionService.Classify, Regress and MultiInference: models asked with tf.Examples.

What is refused, in which order and in which words: tensorflow_serving/servables/tensorflow/
{classifier,regressor,multi_inference,multi_inference_helper}.cc.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    model_pb2,
    regression_pb2,
)

from tfx_encore.gateway.classification import (
    INPUTS,
    classify_result,
    classify_signature_check,
    example_signature,
    regress_result,
    regress_signature_check,
)
from tfx_encore.gateway.errors import Code, ServingError, invalid
from tfx_encore.gateway.example_input import examples_of
from tfx_encore.gateway.inference import Attempt, RouteMoved
from tfx_encore.gateway.observer import CacheStatus
from tfx_encore.gateway.prediction import Freshness, Prediction
from tfx_encore.gateway.routing import Pointer, Router
from tfx_encore.gateway.rpc.call import Call, Done
from tfx_encore.gateway.rpc.messages import read
from tfx_encore.gateway.rpc.model_spec import answer_spec, given_spec, target_of
from tfx_encore.gateway.rpc.quick_rows import RowMakers
from tfx_encore.gateway.servable import Servable
from tfx_encore.gateway.signature import (
    CLASSIFY,
    DEFAULT_SIGNATURE,
    REGRESS,
    Array,
    Signature,
    Tensors,
)


class _Kind(NamedTuple):
    """What classifying and regressing differ in."""

    check: Callable[[Signature, object], tuple[str, ...]]
    result: Callable[[Signature, Tensors, int], Any]
    field: str


_KINDS = {
    CLASSIFY: _Kind(classify_signature_check, classify_result, "classification_result"),
    REGRESS: _Kind(regress_signature_check, regress_result, "regression_result"),
}


class Asked(NamedTuple):
    """What is asked of one signature.

    Attributes:
        kind: classifying or regressing.
        signature: the signature.
        outputs: of it, to compute.
    """

    kind: _Kind
    signature: Signature
    outputs: tuple[str, ...]


class Task:
    """One signature on its way to its result.

    Args:
        makers: make the rows that a hit needs.
        pointer: what the request named.
        servable: the version that it points at.
        asked: what is asked.
        examples: serialised, at least one.
    """

    def __init__(
        self,
        makers: RowMakers,
        pointer: Pointer,
        servable: Servable,
        asked: Asked,
        examples: Sequence[bytes],
    ) -> None:
        self._asked = asked
        self._rows = len(examples)
        signature = asked.signature
        # Naming every output is naming none: such answers are those of Predict.
        wanted = () if len(asked.outputs) == len(signature.outputs) else asked.outputs
        maker = makers.of(servable, signature)
        rows = maker.of_examples(examples) if maker else None
        self.attempt = Attempt(
            pointer, signature.name, wanted, lambda: {INPUTS: _vector(examples)}, rows
        )

    @property
    def field(self) -> str:
        """Name of the result in an InferenceResult."""
        return self._asked.kind.field

    def result(self, prediction: Prediction) -> Any:
        """Returns the ClassificationResult or RegressionResult.

        Raises:
            ServingError: the outputs are not what such a signature gives.
        """
        return self._asked.kind.result(self._asked.signature, prediction.tensors(), self._rows)


class SingleTask:
    """Classify or Regress.

    Args:
        router: knows which version answers.
        makers: make the rows that a hit needs.
        method: `CLASSIFY` or `REGRESS`.
    """

    def __init__(self, router: Router, makers: RowMakers, method: str) -> None:
        self._makers = makers
        classify = method == CLASSIFY
        self.name = "Classify" if classify else "Regress"
        self._router = router
        self._kind = _KINDS[method]
        self._request = (
            classification_pb2.ClassificationRequest
            if classify
            else regression_pb2.RegressionRequest
        )
        self._response = (
            classification_pb2.ClassificationResponse
            if classify
            else regression_pb2.RegressionResponse
        )

    def open(self, call: Call) -> ExamplesWork:
        """Reads a request; see `call.Method`."""
        request = read(self._request, call.request)
        spec = given_spec(request)
        call.model, call.label = spec.name, spec.version_label
        pointer, servable = _resolve(self._router, spec, call)
        signature = example_signature(servable.model.signatures, spec.signature_name)
        call.signature = signature.name
        outputs = self._kind.check(signature, _Definition(servable, signature.name))
        asked = Asked(self._kind, signature, outputs)
        task = Task(self._makers, pointer, servable, asked, examples_of(request.input))

        def write(results: Sequence[Any]) -> bytes:
            response = self._response(result=results[0])
            response.model_spec.MergeFrom(_answer_spec(spec, servable))
            return bytes(response.SerializeToString())

        return ExamplesWork(pointer, servable, [task], write)


class MultiInference:
    """Several signatures of one model on the same Examples.

    Args:
        router: knows which version answers.
        makers: make the rows that a hit needs.
    """

    name = "MultiInference"

    def __init__(self, router: Router, makers: RowMakers) -> None:
        self._router = router
        self._makers = makers

    def open(self, call: Call) -> ExamplesWork:
        """Reads a request; see `call.Method`."""
        request = read(inference_pb2.MultiInferenceRequest, call.request)
        spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        call.model, call.label = spec.name, spec.version_label
        pointer, servable = _resolve(self._router, spec, call)
        checked = _check_tasks(servable, request.tasks)
        call.signature = ",".join(sorted(asked.signature.name for asked in checked))
        examples = examples_of(request.input)
        tasks = [Task(self._makers, pointer, servable, asked, examples) for asked in checked]

        def write(results: Sequence[Any]) -> bytes:
            response = inference_pb2.MultiInferenceResponse()
            for sent, task, result in zip(request.tasks, tasks, results, strict=True):
                added = response.results.add(**{task.field: result})
                added.model_spec.MergeFrom(_answer_spec(sent.model_spec, servable))
            return bytes(response.SerializeToString())

        return ExamplesWork(pointer, servable, tasks, write)


class ExamplesWork:
    """One request; see `call.Work`.

    Args:
        pointer: what it named.
        servable: the version that answers.
        tasks: all of this version.
        write: makes the response of the tasks' results.
    """

    def __init__(
        self,
        pointer: Pointer,
        servable: Servable,
        tasks: Sequence[Task],
        write: Callable[[Sequence[Any]], bytes],
    ) -> None:
        self._pointer = pointer
        self._servable = servable
        self._tasks = tasks
        self._write = write
        self._changes = _changes(servable)

    def now(self) -> Done | None:
        """Returns the response if the local tiers have every row of every task."""
        predictions = []
        for task in self._tasks:
            prediction = task.attempt.now()
            if prediction is None:
                return None
            predictions.append(prediction)
        return self._done(predictions)

    async def finish(self) -> Done:
        """Returns the response, computing what is missing."""
        if len(self._tasks) == 1:
            return self._done([await self._tasks[0].attempt.finish()])
        predictions = await asyncio.gather(*(task.attempt.finish() for task in self._tasks))
        # A task that was done early may have been overtaken while the others were computed.
        if self._pointer.target is not self._servable or self._overtaken():
            raise RouteMoved
        return self._done(predictions)

    def _overtaken(self) -> bool:
        return _changes(self._servable) != self._changes

    def _done(self, predictions: Sequence[Prediction]) -> Done:
        results = [
            task.result(prediction)
            for task, prediction in zip(self._tasks, predictions, strict=True)
        ]
        rows = sum(prediction.rows for prediction in predictions)
        hits = sum(prediction.hits for prediction in predictions)
        return Done(self._write(results), _status(predictions), rows, hits, _freshness(predictions))


class _Definition:
    """A SignatureDef that is written out only if a message shows it."""

    def __init__(self, servable: Servable, signature: str) -> None:
        self._servable = servable
        self._signature = signature

    def __str__(self) -> str:
        return str(self._servable.model.signature_def.get(self._signature, ""))


def _resolve(router: Router, spec: Any, call: Call) -> tuple[Pointer, Servable]:
    pointer = router.pointer(target_of(spec))
    servable = call.servable = pointer.target
    assert servable is not None  # `pointer` raises where there is none
    return pointer, servable


def _vector(examples: Sequence[bytes]) -> Array:
    vector = np.empty(len(examples), dtype=object)
    vector[:] = examples
    return vector


def _check_tasks(servable: Servable, tasks: Sequence[Any]) -> list[Asked]:
    """Returns what each task asks.

    Raises:
        ServingError: INVALID_ARGUMENT, another model, no such signature, one named twice, or one
            that cannot do it; UNIMPLEMENTED, the method is neither classifying nor regressing.
    """
    checked: dict[str, Asked] = {}
    model = ""
    for task in tasks:
        spec = task.model_spec
        if not spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        model = model or spec.name
        if spec.name != model:
            raise invalid(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = spec.signature_name or DEFAULT_SIGNATURE
        if name in checked:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        signature = servable.model.signatures.get(name)
        if signature is None:
            raise invalid(f"Requested signature not found in model graph: {name}")
        kind = _KINDS.get(task.method_name)
        if kind is None:
            raise ServingError(
                Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
            )
        outputs = kind.check(signature, _Definition(servable, name))
        checked[name] = Asked(kind, signature, outputs)
    return list(checked.values())


def _answer_spec(spec: Any, servable: Servable) -> Any:
    return model_pb2.ModelSpec.FromString(
        answer_spec(spec.name, servable.version, spec.signature_name)
    )


def _changes(servable: Servable) -> int:
    return servable.cache.state.changes if servable.cache else 0


def _status(predictions: Sequence[Prediction]) -> CacheStatus:
    """Of several answers: `off` if none was cached, `hit` if all of all were hits."""
    statuses = {prediction.status for prediction in predictions}
    if len(statuses) == 1:
        return statuses.pop()
    return "partial" if any(prediction.hits for prediction in predictions) else "miss"


def _freshness(predictions: Sequence[Prediction]) -> Freshness | None:
    """Until when all answers may be repeated: until the first may not."""
    kept = [prediction.freshness for prediction in predictions]
    found = [freshness for freshness in kept if freshness is not None]
    if len(found) < len(kept):
        return None
    ends = [freshness.expires_at for freshness in found if freshness.expires_at]
    return found[0]._replace(expires_at=min(ends, default=0.0))
