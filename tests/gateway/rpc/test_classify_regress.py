"""Classify and Regress, as classifier_test.cc and regressor_test.cc expect them."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from tfx_encore.gateway.classification import (
    classify_result,
    classify_signature_check,
    regress_result,
    regress_signature_check,
)
from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.example_input import examples_of
from tfx_encore.gateway.signature import PREDICT, Signature, TensorSpec

INVALID = grpc.StatusCode.INVALID_ARGUMENT
ANY = TensorSpec("float32", None)


def call(kit, request, gateway=None, repeats=1):
    async def scenario():
        async with kit.serving(gateway or kit.Gateway()) as client:
            name = "Classify" if "Classification" in type(request).__name__ else "Regress"
            method = getattr(client.prediction, name)
            try:
                return [await method(request) for _ in range(repeats)][-1]
            except grpc.aio.AioRpcError as error:
                return error.code(), error.details()

    return asyncio.run(scenario())


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_classes_and_scores_of_each_example(kit, repeats):
    answer = call(kit, kit.classify_request([0.25, 1.0]), repeats=repeats)
    found = [
        [(item.label, item.score) for item in row.classes] for row in answer.result.classifications
    ]
    assert found == [[("no", 0.75), ("yes", 0.25)], [("no", 0.0), ("yes", 1.0)]]
    assert answer.model_spec.name == "m"
    assert answer.model_spec.version.value == 1
    assert answer.model_spec.signature_name == "classify"


def test_scores_alone_have_no_labels(kit):
    answer = call(kit, kit.classify_request([0.25], signature="scores"))
    found = [(item.label, item.score) for item in answer.result.classifications[0].classes]
    assert found == [("", 0.75), ("", 0.25)]


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_the_value_of_each_example(kit, repeats):
    answer = call(kit, kit.regress_request([0.25, 4.0]), repeats=repeats)
    assert [item.value for item in answer.result.regressions] == [0.5, 8.0]
    assert answer.model_spec.signature_name == "regress"


def test_each_example_is_a_cached_row_that_predict_shares(kit):
    gateway = kit.Gateway()

    async def scenario():
        async with kit.serving(gateway) as client:
            await client.prediction.Regress(kit.regress_request([0.25, 0.5]))
            await client.prediction.Regress(kit.regress_request([0.5, 0.75, 0.25]))
            vector = np.empty(1, dtype=object)
            vector[0] = kit.example(x=0.75).SerializeToString()
            await client.prediction.Predict(kit.predict_request(signature="regress", inputs=vector))

    asyncio.run(scenario())
    asked = [len(inputs["inputs"]) for _, inputs, _ in gateway.servables[1].model.calls]
    assert asked == [2, 1]
    assert (gateway.observer.hits, gateway.observer.total) == (3, 6)


def test_a_context_is_merged_into_each_example_whose_own_features_win(kit):
    request = kit.regress_request([])
    with_context = request.input.example_list_with_context
    with_context.context.CopyFrom(kit.example(x=3.0, other=1.0))
    with_context.examples.add()
    with_context.examples.append(kit.example(x=5.0))
    answer = call(kit, request)
    assert [item.value for item in answer.result.regressions] == [6.0, 10.0]


def empty_inputs():
    without = input_pb2.Input()
    empty = input_pb2.Input()
    empty.example_list.SetInParent()
    context = input_pb2.Input()
    context.example_list_with_context.context.SetInParent()
    return [without, empty, context]


@pytest.mark.parametrize("case", [0, 1, 2])
def test_input_without_examples_is_empty(kit, case):
    for request in (kit.classify_request(), kit.regress_request()):
        request.input.CopyFrom(empty_inputs()[case])
        assert call(kit, request) == (INVALID, "Input is empty.")


def test_examples_are_kept_as_bytes_with_the_context_before_them(kit):
    message = input_pb2.Input()
    message.example_list_with_context.context.CopyFrom(kit.example(a=1.0))
    message.example_list_with_context.examples.append(kit.example(b=2.0))
    expected = kit.example(a=1.0).SerializeToString() + kit.example(b=2.0).SerializeToString()
    assert examples_of(message) == [expected]


def test_an_unknown_signature_is_named(kit):
    message = "No signature was found with the name: none"
    assert call(kit, kit.classify_request(signature="none")) == (INVALID, message)
    assert call(kit, kit.regress_request(signature="none")) == (INVALID, message)


def test_the_default_signature_must_fit(kit):
    outputs = "Expected one or two output Tensors, found 3"
    signature = Signature(
        "serving_default", PREDICT, {"inputs": ANY}, dict.fromkeys(("a", "b", "c"), ANY)
    )
    gateway = kit.Gateway(kit.FakeModel(signatures={"serving_default": signature}))
    assert call(kit, kit.classify_request(signature=""), gateway) == (INVALID, outputs)


def test_a_missing_spec_is_said_before_anything_else(kit):
    missing = (INVALID, "Missing ModelSpec")
    assert call(kit, classification_pb2.ClassificationRequest()) == missing
    assert call(kit, regression_pb2.RegressionRequest()) == missing


def test_an_unknown_model_is_not_found(kit):
    found = (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(other)")
    assert call(kit, kit.classify_request(model="other")) == found
    assert call(kit, kit.regress_request(model="other")) == found


def test_an_example_that_the_model_refuses_is_an_invalid_argument(kit):
    request = kit.regress_request()
    request.input.example_list.examples[0].CopyFrom(kit.example(y=1.0))
    code, message = call(kit, request)
    assert code == INVALID
    assert "Feature: x" in message


def test_what_the_model_raises_reaches_the_client(kit):
    model = kit.FakeModel()
    model.raises = ServingError(Code.INTERNAL, "Run totally failed")
    expected = (grpc.StatusCode.INTERNAL, "Run totally failed")
    assert call(kit, kit.classify_request(), kit.Gateway(model)) == expected


def test_outputs_without_rows_are_refused_in_the_words_of_the_original(kit):
    def answer(inputs, outputs):
        return {"outputs": np.zeros((len(inputs["inputs"]), 2), np.float32)}

    gateway = kit.Gateway(kit.FakeModel(answer=answer), mode="off")
    assert call(kit, kit.regress_request([1.0]), gateway) == (
        INVALID,
        "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,2]",
    )


# --- the rules by themselves ----------------------------------------------------------------------


def signature(inputs=("inputs",), outputs=("outputs",)):
    return Signature("s", PREDICT, dict.fromkeys(inputs, ANY), dict.fromkeys(outputs, ANY))


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (("inputs", "more"), ("scores",), "Expected one input Tensor."),
        ((), ("scores",), "Expected one input Tensor."),
        (("inputs",), (), "Expected one or two output Tensors, found 0"),
        (("inputs",), ("a", "b", "c"), "Expected one or two output Tensors, found 3"),
        (("x",), ("scores",), "No classification inputs found in SignatureDef: THE DEF"),
        (
            ("inputs",),
            ("a", "b"),
            'Expected classification signature outputs to contain at least one of "classes" or '
            '"scores". Signature was: THE DEF',
        ),
    ],
)
def test_a_signature_that_cannot_classify_is_refused(inputs, outputs, message):
    with pytest.raises(ServingError) as raised:
        classify_signature_check(signature(inputs, outputs), "THE DEF")
    assert (raised.value.code, raised.value.message) == (Code.INVALID_ARGUMENT, message)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (("inputs", "more"), ("outputs",), "Expected one input Tensor."),
        (("inputs",), ("outputs", "more"), "Expected one output Tensor."),
        (("x",), ("outputs",), "No regression inputs found in SignatureDef: THE DEF"),
        (("inputs",), ("x",), "No regression outputs found in SignatureDef: THE DEF"),
    ],
)
def test_a_signature_that_cannot_regress_is_refused(inputs, outputs, message):
    with pytest.raises(ServingError) as raised:
        regress_signature_check(signature(inputs, outputs), "THE DEF")
    assert (raised.value.code, raised.value.message) == (Code.INVALID_ARGUMENT, message)


def test_the_method_name_does_not_matter():
    assert classify_signature_check(signature(outputs=("scores", "other"))) == ("scores",)
    assert classify_signature_check(signature(outputs=("scores", "classes"))) == (
        "classes",
        "scores",
    )
    assert regress_signature_check(signature()) == ("outputs",)


LABELS = np.array([[b"a", b"b"]], dtype=object)
SCORES = np.zeros((1, 2), np.float32)


@pytest.mark.parametrize(
    ("outputs", "rows", "message"),
    [
        (
            {"classes": LABELS[0]},
            1,
            "Expected Tensor shape: [batch_size num_classes] but got [2]",
        ),
        ({"classes": SCORES}, 1, "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
        ({"classes": LABELS}, 2, "Expected classes output batch size of 2. Got: 1"),
        (
            {"scores": SCORES[None]},
            1,
            "Expected Tensor shape: [batch_size num_classes] but got [1,1,2]",
        ),
        (
            {"scores": SCORES.astype(np.float64)},
            1,
            "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE",
        ),
        ({"scores": LABELS}, 1, "Expected scores Tensor of DT_FLOAT. Got: DT_STRING"),
        ({"scores": SCORES}, 3, "Expected scores output batch size of 3. Got: 1"),
        (
            {"classes": LABELS, "scores": np.zeros((1, 3), np.float32)},
            1,
            "Tensors class and score should match in dim_size(1). Got 2 vs. 3",
        ),
    ],
)
def test_outputs_that_are_no_classification_are_refused(outputs, rows, message):
    with pytest.raises(ServingError) as raised:
        classify_result(signature(), outputs, rows)
    assert (raised.value.code, raised.value.message) == (Code.INVALID_ARGUMENT, message)


@pytest.mark.parametrize(
    ("values", "rows", "message"),
    [
        (
            np.zeros((1, 1, 1), np.float32),
            1,
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            "[1,1,1]",
        ),
        (np.zeros(2, np.float32), 1, "Input batch size did not match output batch size: 1 vs. 2"),
        (np.zeros(1, np.int64), 1, "Expected output Tensor of DT_FLOAT.  Got: DT_INT64"),
        (LABELS[0, :1], 1, "Expected output Tensor of DT_FLOAT.  Got: DT_STRING"),
    ],
)
def test_outputs_that_are_no_regression_are_refused(values, rows, message):
    with pytest.raises(ServingError) as raised:
        regress_result(signature(), {"outputs": values}, rows)
    assert (raised.value.code, raised.value.message) == (Code.INVALID_ARGUMENT, message)


def test_no_classes_are_an_empty_classification():
    found = classify_result(signature(), {"scores": np.zeros((2, 0), np.float32)}, 2)
    assert [len(item.classes) for item in found.classifications] == [0, 0]


def test_a_column_of_values_is_a_regression():
    found = regress_result(signature(), {"outputs": np.float32([[1], [2]])}, 2)
    assert [item.value for item in found.regressions] == [1, 2]
