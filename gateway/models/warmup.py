"""Replays a model's warm-up file before it is AVAILABLE, as TensorFlow Serving does.

`assets.extra/tf_serving_warmup_requests` is a TFRecord of PredictionLogs. Limits, order and which
records are run follow tensorflow_serving/servables/tensorflow/saved_model_warmup.cc and
saved_model_warmup_util.cc: no file is fine; the first record that fails, fails the load.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.python.lib.io import _pywrap_record_io
from tensorflow_serving.apis import prediction_log_pb2

from tfx_encore.gateway import classification
from tfx_encore.gateway.errors import Code, ServingError, invalid
from tfx_encore.gateway.example_input import examples_of
from tfx_encore.gateway.inference import check_inputs, check_outputs
from tfx_encore.gateway.model_port import LoadedModel
from tfx_encore.gateway.observer import GatewayObserver
from tfx_encore.gateway.signature import CLASSIFY, DEFAULT_SIGNATURE, REGRESS, Signature, Tensors
from tfx_encore.gateway.tensor_proto import to_tensors

log = logging.getLogger("tfx_encore.gateway")

MAX_RECORDS = 1000
"""Records of one file at most (WarmupConsts::kMaxNumRecords)."""

_UNSUPPORTED = {"predict_streamed_log", "session_run_log"}

Signatures = Mapping[str, Signature]


class WarmCall(NamedTuple):
    """One call of the model that a record asks for.

    Attributes:
        signature: the signature to run.
        inputs: all of its inputs.
        outputs: the outputs to compute.
        check: raises ServingError if the answer cannot be sent.
    """

    signature: str
    inputs: Tensors
    outputs: tuple[str, ...]
    check: Callable[[Tensors], object]


async def replay(model: LoadedModel, path: str, observer: GatewayObserver) -> int:
    """Runs every record of a version's warm-up file, in order; returns how many there were.

    Args:
        model: what to run them on.
        path: of the SavedModel.
        observer: told of what was replayed.

    Raises:
        ServingError: a record is damaged, cannot be run, or is the 1,001st.
    """
    file = warmup_file(path)
    if not await asyncio.to_thread(file.is_file):
        return 0
    begun = time.monotonic()
    records = await asyncio.to_thread(read_records, file)
    for number, record in enumerate(records, start=1):
        await _replay_one(model, record, f"warm-up record {number} of {file}")
    seconds = time.monotonic() - begun
    observer.warmed_up(model.name, model.version, records=len(records), seconds=seconds)
    log.info(
        "warm-up replayed model=%s version=%d records=%d seconds=%.2f",
        *(model.name, model.version, len(records), seconds),
    )
    return len(records)


async def _replay_one(model: LoadedModel, record: Any, what: str) -> None:
    try:
        for call in calls_of(record, model.signatures):
            call.check(await model.run(call.signature, call.inputs, call.outputs))
    except ServingError as error:
        raise ServingError(error.code, f"{what}: {error.message}") from error


def warmup_file(path: str) -> Path:
    """Returns where a SavedModel's warm-up file is, if it has one."""
    return Path(path) / "assets.extra" / "tf_serving_warmup_requests"


def read_records(file: Path, limit: int | None = None) -> list[Any]:
    """Returns the PredictionLogs of a warm-up file.

    Args:
        file: a TFRecord.
        limit: read so many at most; None for all.

    Raises:
        ServingError: DATA_LOSS, no TFRecord or a damaged one; INVALID_ARGUMENT, something in it is
            no PredictionLog, or there are more than `MAX_RECORDS`.
    """
    records: list[Any] = []
    for data in _read_tfrecord(file):
        if limit is not None and len(records) >= limit:
            break
        if len(records) == MAX_RECORDS:
            raise invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}")
        try:
            records.append(prediction_log_pb2.PredictionLog.FromString(data))
        except DecodeError as error:
            raise invalid(
                f"Failed to parse warmup record {len(records) + 1} ({len(data)} bytes) from {file}"
            ) from error
    return records


def calls_of(record: Any, signatures: Signatures) -> list[WarmCall]:
    """Returns what a PredictionLog asks of the model; nothing if it is empty.

    Raises:
        ServingError: TensorFlow Serving would refuse the request, or does not replay its kind.
    """
    kind = record.WhichOneof("log_type")
    if kind in _UNSUPPORTED:
        number = record.DESCRIPTOR.fields_by_name[kind].number
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
    if kind is None:
        return []
    request = getattr(record, kind).request
    if kind == "predict_log":
        return [_predict(request, signatures)]
    if kind == "multi_inference_log":
        return [_task(task, request.input, signatures) for task in request.tasks]
    method = CLASSIFY if kind == "classify_log" else REGRESS
    return [_on_examples(method, request.model_spec, request.input, signatures)]


def _predict(request: Any, signatures: Signatures) -> WarmCall:
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = signatures.get(name)
    if signature is None:
        raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    check_inputs(signature, request.inputs)
    inputs = to_tensors(request.inputs, signature.inputs)
    return WarmCall(name, inputs, check_outputs(signature, request.output_filter), _accept)


def _task(task: Any, message: Any, signatures: Signatures) -> WarmCall:
    """One task of a MultiInferenceRequest (multi_inference.cc)."""
    if task.method_name not in (CLASSIFY, REGRESS):
        raise ServingError(
            Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
        )
    return _on_examples(task.method_name, task.model_spec, message, signatures)


def _on_examples(method: str, spec: Any, message: Any, signatures: Signatures) -> WarmCall:
    signature = classification.example_signature(signatures, spec.signature_name)
    if method == CLASSIFY:
        outputs = classification.classify_signature_check(signature)
        result: Callable[..., object] = classification.classify_result
    else:
        outputs = classification.regress_signature_check(signature)
        result = classification.regress_result
    examples = examples_of(message)
    inputs = {name: np.array(examples, dtype=object) for name in signature.inputs}
    check = partial(_check_result, result, signature, len(examples))
    return WarmCall(signature.name, inputs, outputs, check)


def _check_result(
    result: Callable[..., object], signature: Signature, rows: int, outputs: Tensors
) -> None:
    result(signature, outputs, rows)


def _accept(outputs: Tensors) -> None:
    """The answer to Predict is sent whatever it is."""
    del outputs


def _read_tfrecord(file: Path) -> Iterator[bytes]:
    try:
        yield from _pywrap_record_io.RecordIterator(str(file), "")
    except tf.errors.DataLossError as error:
        message = error.message.partition(" (")[0]
        raise ServingError(
            Code.DATA_LOSS,
            f"{file}: {message}. Please verify your warmup data is in TFRecord format.",
        ) from error
    except tf.errors.OpError as error:
        raise ServingError(Code(error.error_code), f"{file}: {error.message}") from error
