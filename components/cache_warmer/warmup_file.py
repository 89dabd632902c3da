"""The standard TF Serving warm-up file: a TFRecord of PredictionLog, replayed before traffic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.cache.rows import decode_row
from tfx_encore.cache.tf_predict import input_tensors
from tfx_encore.components.cache_warmer.head import HeadRow

WARMUP_FILE = "tf_serving_warmup_requests"


def write_warmup_file(
    path: str,
    rows: Iterable[HeadRow],
    specs: Sequence[SignatureSpec],
    model_name: str,
    output_filter: Sequence[str] = (),
) -> int:
    """Writes one request for each row; returns how many. TF Serving reads at most 1,000."""
    count = 0
    with tf.io.TFRecordWriter(path) as writer:
        for row in rows:
            request = _request(row, specs[row.signature], model_name, output_filter)
            log = prediction_log_pb2.PredictLog(request=request)
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString(deterministic=True))
            count += 1
    return count


def _request(
    row: HeadRow, spec: SignatureSpec, model_name: str, output_filter: Sequence[str]
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(output_filter=output_filter)
    request.model_spec.name = model_name
    request.model_spec.signature_name = spec.signature
    if spec.form == "tensors":
        for name, values in input_tensors(spec, [decode_row(row.row)]).items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    else:
        values = np.array([row.example], dtype=object)
        request.inputs[spec.input_name].CopyFrom(tf.make_tensor_proto(values, tf.string, [1]))
    return request
