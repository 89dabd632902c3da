"""Status and metadata as google::protobuf::util::MessageToJsonString prints them."""

from __future__ import annotations

import json

import pytest

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.rest.json_response import proto_json


@pytest.fixture(scope="module")
def apis():
    from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

    return get_model_status_pb2, get_model_metadata_pb2


def test_a_status(apis):
    response = apis[0].GetModelStatusResponse()
    version = response.model_version_status.add(version=123, state=30)
    version.status.error_message = 'a <b> "c"\n\u2028'
    # The layout of g3doc/api_rest.md.
    assert proto_json(response).decode() == (
        '{\n "model_version_status": [\n  {\n   "version": "123",\n   "state": "AVAILABLE",\n'
        '   "status": {\n    "error_code": "OK",\n'
        '    "error_message": "a \\u003cb\\u003e \\"c\\"\\n\\u2028"\n   }\n  }\n ]\n}\n'
    )


def test_a_status_without_versions(apis):
    assert proto_json(apis[0].GetModelStatusResponse()) == b'{\n "model_version_status": []\n}\n'


def metadata(apis):
    response = apis[1].GetModelMetadataResponse()
    response.model_spec.name = "half"
    response.model_spec.version.value = 7
    signatures = apis[1].SignatureDefMap()
    signature = signatures.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    given = signature.inputs["x"]
    given.name, given.dtype = "x:0", 1
    given.tensor_shape.dim.add(size=-1, name="")
    signature.inputs["a"].dtype = 9
    response.metadata["signature_def"].Pack(signatures)
    return response


def test_metadata_are_put_together_from_their_parts(apis):
    text = proto_json(metadata(apis)).decode()
    assert text.startswith(
        '{\n"model_spec":{\n "name": "half",\n "version": "7",\n "signature_name": ""\n}\n,\n'
        '"metadata": {"signature_def": {\n "signature_def": {\n  "serving_default": {\n'
        '   "inputs": {\n    "a": {\n     "dtype": "DT_INT64"\n    },\n    "x": {\n'
        '     "name": "x:0",\n     "dtype": "DT_FLOAT",\n     "tensor_shape": {\n      "dim": [\n'
        '       {\n        "size": "-1",\n        "name": ""\n       }\n      ],\n'
        '      "unknown_rank": false\n     }\n    }\n   },\n   "outputs": {},\n'
        '   "method_name": "tensorflow/serving/predict",\n'
    )
    assert text.endswith("  }\n }\n}\n}\n}\n")
    assert json.loads(text)["metadata"]["signature_def"]["signature_def"]["serving_default"]


def test_metadata_without_signatures_are_an_error(apis):
    with pytest.raises(ServingError) as caught:
        proto_json(apis[1].GetModelMetadataResponse())
    assert caught.value.code == Code.INTERNAL


def test_every_kind_of_field():
    from tensorflow.core.framework import tensor_pb2

    tensor = tensor_pb2.TensorProto(
        tensor_content=b"\xff\x00",
        float_val=[0.1, 1.0, float("nan"), 1 / 3],
        double_val=[0.1, 1 / 3, float("-inf"), 1e22],
        bool_val=[True],
        string_val=[b"a"],
        uint64_val=[2**64 - 1],
        int_val=[-1],
    )
    found = json.loads(proto_json(tensor))
    assert found["tensorContent"] == "/wA="
    assert found["stringVal"] == ["YQ=="]
    assert found["boolVal"] == [True]
    assert found["uint64Val"] == ["18446744073709551615"]
    assert found["intVal"] == [-1]
    text = proto_json(tensor).decode()
    assert '"floatVal": [\n  0.1,\n  1,\n  "NaN",\n  0.333333343\n ]' in text
    assert '"doubleVal": [\n  0.1,\n  0.33333333333333331,\n  "-Infinity",\n  1e+22\n ]' in text
    assert "tensorShape" not in found
