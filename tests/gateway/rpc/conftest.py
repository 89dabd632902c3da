"""A gateway over gRPC in this process: a model of numpy, a real channel on 127.0.0.1."""

from __future__ import annotations

import contextlib
from collections import Counter

import grpc
import numpy as np
import pytest
from tensorflow.core.example import example_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.memory_store import MemoryStore
from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.gateway.errors import ServingError, invalid
from tfx_encore.gateway.observer import GatewayObserver
from tfx_encore.gateway.routing import Router, Routes
from tfx_encore.gateway.rpc.server import serve_grpc
from tfx_encore.gateway.rpc.service import GrpcService
from tfx_encore.gateway.servable import Plan, Servable
from tfx_encore.gateway.signature import CLASSIFY, PREDICT, REGRESS, Signature, TensorSpec
from tfx_encore.gateway.tensor_proto import to_proto

FLOATS = TensorSpec("float32", (-1,))
STRINGS = TensorSpec("string", (-1,))
SIGNATURES = {
    "serving_default": Signature(
        "serving_default",
        PREDICT,
        {"x": FLOATS},
        {"y": FLOATS, "version": TensorSpec("int64", (-1,))},
    ),
    "two": Signature(
        "two", PREDICT, {"name": STRINGS, "x": TensorSpec("float32", (-1, 2))}, {"y": FLOATS}
    ),
    "classify": Signature(
        "classify",
        CLASSIFY,
        {"inputs": STRINGS},
        {
            "classes": TensorSpec("string", (-1, 2)),
            "scores": TensorSpec("float32", (-1, 2)),
        },
    ),
    "scores": Signature(
        "scores", PREDICT, {"inputs": STRINGS}, {"scores": TensorSpec("float32", (-1, 2))}
    ),
    "regress": Signature("regress", REGRESS, {"inputs": STRINGS}, {"outputs": FLOATS}),
}
_X = (FeatureSpec("x", "dense", "float32", (1,)),)
SPECS = {
    "serving_default": SignatureSpec(
        "serving_default", "tensors", features=(FeatureSpec("x", "tensor", "float32"),)
    ),
    "two": SignatureSpec(
        "two",
        "tensors",
        features=(
            FeatureSpec("name", "tensor", "string"),
            FeatureSpec("x", "tensor", "float32", (2,)),
        ),
    ),
    **{
        name: SignatureSpec(name, "examples", "inputs", _X)
        for name in ("classify", "scores", "regress")
    },
}


def definitions():
    """The SignatureDefs of the model, as GetModelMetadata returns them."""
    made = {}
    for name, signature in SIGNATURES.items():
        made[name] = meta_graph_pb2.SignatureDef(method_name=signature.method_name)
        for key in signature.inputs:
            made[name].inputs[key].name = f"{name}_{key}:0"
        for key in signature.outputs:
            made[name].outputs[key].name = f"{name}_{key}:0"
    return made


class FakeModel:
    """A LoadedModel and its own Runner. y is 2 x; `wait` holds every call up."""

    def __init__(self, version=1, signatures=SIGNATURES, answer=None):
        self.name = "m"
        self.version = version
        self.signatures = signatures
        self.signature_def = definitions()
        self.calls = []
        self.wait = None
        self.raises = None
        self._answer = answer

    async def run(self, signature, inputs, outputs):
        self.calls.append((signature, dict(inputs), tuple(outputs)))
        if self.wait is not None:
            await self.wait()
        if self.raises is not None:
            raise self.raises
        if self._answer is not None:
            return self._answer(inputs, outputs)
        made = self._compute(signature, inputs)
        return {name: made[name] for name in outputs}

    def _compute(self, signature, inputs):
        if signature in ("classify", "scores", "regress"):
            x = np.array([_x_of(example) for example in inputs["inputs"]], np.float32)
            labels = np.array([[b"no", b"yes"]] * len(x), dtype=object).reshape(-1, 2)
            scores = np.stack([1 - x, x], axis=1)
            return {"classes": labels, "scores": scores, "outputs": 2 * x}
        x = inputs["x"]
        if x.dtype != np.float32:
            raise invalid(f"Expects arg[0] to be float but {x.dtype} is provided")
        if signature == "two":
            if x.ndim != 2:
                raise invalid(f"x of shape {x.shape}")
            return {"y": x.sum(axis=1)}
        return {"y": 2 * x, "version": np.full(x.shape, self.version)}

    async def close(self):
        pass


def _x_of(serialized):
    feature = example_pb2.Example.FromString(serialized).features.feature
    if "x" not in feature or not feature["x"].float_list.value:
        raise invalid("Feature: x (data type: float) is required but could not be found.")
    return feature["x"].float_list.value[0]


def make_servable(model, cache=None, mode="rows", specs=SPECS):
    plans = {
        name: Plan(mode, specs.get(name) if mode == "rows" else None) for name in model.signatures
    }
    if mode != "off":
        cache = cache or InferenceCache("m", [MemoryStore(2**22)])
    return Servable(
        model,
        f"sha256:{model.version}",
        plans=plans,
        cache=cache,
        merged=model,
        alone=model,
    )


class Heard(GatewayObserver):
    """Remembers what it was told."""

    def __init__(self):
        self.requests = []
        self.hits = 0
        self.total = 0

    def request(self, **told):
        assert told.pop("protocol") == "grpc"
        assert told.pop("seconds") >= 0
        self.requests.append(told)

    def rows(self, model, hits, rows):
        self.hits += hits
        self.total += rows


class FakeModels:
    """`status.Models` with what a test puts in."""

    def __init__(self):
        self.statuses = []
        self.asked = []
        self.configs = []
        self.raises = None

    def status(self, model, version=None, label=None):
        self.asked.append((model, version, label))
        if self.raises:
            raise self.raises
        return self.statuses

    async def reload(self, config):
        if self.raises:
            raise self.raises
        self.configs.append(config)


class FakeLog:
    """A request log that wants everything."""

    def __init__(self):
        self.records = []

    def wants(self, model, code):
        return True

    def offer(self, record):
        self.records.append(record)
        return True


class Gateway:
    """Everything around a server that a test may want to touch."""

    def __init__(self, *models, labels=None, mode="rows", servables=None, **options):
        self.router = Router()
        self.observer = Heard()
        self.models = FakeModels()
        self.log = FakeLog()
        made = servables or [make_servable(model, mode=mode) for model in models or [FakeModel()]]
        self.servables = {servable.version: servable for servable in made}
        self.publish(labels=labels or {})
        self.service = GrpcService(
            self.router,
            self.models,
            self.observer,
            self.log,
            **{"raw_bytes": 2**20, **options},
        )

    def publish(self, versions=None, **more):
        kept = self.servables if versions is None else versions
        self.router.publish("m", Routes(kept, **more))


class Client:
    """The official stubs."""

    def __init__(self, channel):
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)
        self.channel = channel


@contextlib.asynccontextmanager
async def serving(gateway, **options):
    """A server on a free port, and a client of it."""
    listener = await serve_grpc(gateway.service, "127.0.0.1", 0, **options)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
            yield Client(channel)
    finally:
        await listener.close(0)


class RefusedError(Exception):
    """How a call ended that was refused."""

    def __init__(self, error):
        self.code = error.code()
        self.message = error.details()
        self.trailers = dict(error.trailing_metadata() or ())
        super().__init__(self.code, self.message)


async def refused(call):
    """Returns how a call fails; a call that does not fail fails the test."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return RefusedError(error)
    raise AssertionError(f"answered: {answer}")


def predict_request(values=(1.0,), model="m", signature="", **tensors):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, array in (tensors or {"x": np.array(values, np.float32)}).items():
        request.inputs[name].CopyFrom(to_proto(array))
    return request


def example(**features):
    made = example_pb2.Example()
    for name, value in features.items():
        made.features.feature[name].float_list.value.append(value)
    return made


def fill_examples(message, values):
    message.example_list.examples.extend(example(x=value) for value in values)


def classify_request(values=(0.25,), signature="classify", model="m"):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    fill_examples(request.input, values)
    return request


def regress_request(values=(0.25,), signature="regress", model="m"):
    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    fill_examples(request.input, values)
    return request


def multi_request(tasks=(("classify", CLASSIFY), ("regress", REGRESS)), values=(0.25,)):
    request = inference_pb2.MultiInferenceRequest()
    for signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = "m", signature
    fill_examples(request.input, values)
    return request


@pytest.fixture
def kit():
    """The helpers of this folder, for test files cannot import each other."""
    return Kit


class Kit:
    SIGNATURES = SIGNATURES
    SPECS = SPECS
    Counter = Counter
    ServingError = ServingError
    FakeModel = FakeModel
    Gateway = Gateway
    make_servable = staticmethod(make_servable)
    serving = staticmethod(serving)
    refused = staticmethod(refused)
    predict_request = staticmethod(predict_request)
    classify_request = staticmethod(classify_request)
    regress_request = staticmethod(regress_request)
    multi_request = staticmethod(multi_request)
    example = staticmethod(example)
    definitions = staticmethod(definitions)
