"""One small SavedModel with a signature of each nature, and a LoadedModel of numpy functions."""

from __future__ import annotations

import contextlib
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfx_encore.gateway.errors import Code, ServingError, invalid
from tfx_encore.gateway.inference import check_inputs, check_outputs
from tfx_encore.gateway.models.signature_reading import signatures_of
from tfx_encore.gateway.status import VersionState
from tfx_encore.gateway.tensor_proto import to_proto, to_tensor

FEATURES = {
    "x": tf.io.FixedLenFeature([2], tf.float32),
    "word": tf.io.FixedLenFeature([], tf.string, ""),
    "unread": tf.io.FixedLenFeature([], tf.float32, 0.0),
}
X = tf.TensorSpec([None, 2], tf.float32, name="x")
WORD = tf.TensorSpec([None], tf.string, name="word")
EXAMPLES = tf.TensorSpec([None], tf.string, name="examples")
INPUTS = tf.TensorSpec([None], tf.string, name="inputs")


class Small(tf.Module):
    """Scores x by weights and by the word's place in a vocabulary that is an asset."""

    def __init__(self, vocabulary: str) -> None:
        super().__init__()
        keys, index = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(vocabulary, tf.string, keys, tf.int64, index), -1
        )
        self.weights = tf.Variable([0.5, -2.0])
        self.step = tf.Variable(0, dtype=tf.int64)

    def score(self, x, word):
        return tf.linalg.matvec(x, self.weights) + tf.cast(self.table.lookup(word), tf.float32)

    def of_examples(self, serialized):
        parsed = tf.io.parse_example(serialized, FEATURES)
        return self.score(parsed["x"], parsed["word"])

    def serving_default(self, x, word):
        return {"score": self.score(x, word), "shout": tf.strings.upper(word)}

    def examples(self, examples):
        return {"score": self.of_examples(examples)}

    def classify(self, inputs):
        scores = tf.stack([self.of_examples(inputs), -self.of_examples(inputs)], axis=1)
        return {"scores": scores, "classes": tf.where(scores > 0, "yes", "no")}

    def regress(self, inputs):
        return {"outputs": self.of_examples(inputs)}

    def total(self, x):
        return {"total": tf.reduce_sum(x)}

    def scaled(self, x, factor):
        return {"y": x * factor}

    def mean(self, x):
        return {"y": x[:, 0] - tf.reduce_mean(x)}

    def random(self, x):
        return {"y": x[:, 0] + tf.random.uniform([])}

    def counting(self, x):
        return {"y": x[:, 0] + tf.cast(self.step.assign_add(1), tf.float32)}

    def constant(self, x):
        return {"y": tf.zeros_like(x[:, 0])}

    def packed(self, word):
        return {"y": tf.strings.length(tf.io.decode_compressed(word, "ZLIB"))}

    def slow(self, x):
        same = tf.while_loop(lambda i, y: i < 50_000, lambda i, y: (i + 1, y * 1.0), [0, x])
        return {"y": same[1][:, 0]}


def _functions(module: Small) -> dict[str, object]:
    takes = {
        "serving_default": (X, WORD),
        "examples": (EXAMPLES,),
        "classify": (INPUTS,),
        "regress": (INPUTS,),
        "scaled": (X, tf.TensorSpec([], tf.float32, name="factor")),
        "packed": (WORD,),
        **dict.fromkeys(("total", "mean", "random", "counting", "constant", "slow"), (X,)),
    }
    return {
        name: tf.function(getattr(module, name), autograph=False, input_signature=specs)
        for name, specs in takes.items()
    }


@pytest.fixture(scope="session")
def small_model(tmp_path_factory) -> str:
    """Path of the SavedModel."""
    folder = tmp_path_factory.mktemp("small")
    vocabulary = folder / "words.txt"
    vocabulary.write_text("red\ngreen\nblue\n")
    module = Small(str(vocabulary))
    path = str(folder / "1")
    tf.saved_model.save(module, path, signatures=_functions(module))
    vocabulary.unlink()  # a server has only the copy among the assets
    return path


def inputs(rows: int = 3) -> dict[str, np.ndarray]:
    """Inputs of `serving_default`, the same for the same number of rows."""
    x = np.random.default_rng(rows).normal(size=(rows, 2)).astype(np.float32)
    word = np.empty(rows, dtype=object)
    word[:] = [(b"red", b"green", b"blue", b"\xff\x00", b"")[row % 5] for row in range(rows)]
    return {"x": x, "word": word}


def scores(given: dict[str, np.ndarray]) -> np.ndarray:
    """What `serving_default` answers."""
    place = [
        (b"red", b"green", b"blue").index(w) if w in b"red green blue".split() else -1
        for w in given["word"]
    ]
    return given["x"] @ np.float32([0.5, -2.0]) + np.float32(place)


class FakeModel:
    """A LoadedModel of numpy functions: signature -> (dtypes and shapes, function)."""

    def __init__(self, name="fake", version=1, **signatures) -> None:
        self.name, self.version, self.calls, self.closed = name, version, [], False
        self._functions = {key: function for key, (_, _, function) in signatures.items()}
        self.signature_def = {
            key: _definition(takes, gives) for key, (takes, gives, _) in signatures.items()
        }
        self.signatures = signatures_of(self.signature_def)

    async def run(self, signature, inputs, outputs):
        """Checks what a session checks, then calls the function."""
        known = self.signatures.get(signature)
        if known is None:
            raise ServingError(Code.FAILED_PRECONDITION, f"no {signature}")
        check_inputs(known, inputs)
        for key, spec in known.inputs.items():
            dtype = "string" if inputs[key].dtype == object else inputs[key].dtype.name
            if dtype != spec.dtype:
                raise invalid(f"{key} is {dtype}")
        self.calls.append((signature, inputs, tuple(outputs)))
        try:
            answer = self._functions[signature](**inputs)
        except (ValueError, TypeError, IndexError) as error:
            raise invalid(str(error)) from error
        return {key: answer[key] for key in check_outputs(known, outputs)}

    async def close(self):
        """Remembers it."""
        self.closed = True


def _definition(takes, gives):
    definition = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    for items, infos in ((takes, definition.inputs), (gives, definition.outputs)):
        for key, (dtype, shape) in items.items():
            infos[key].dtype = types_pb2.DataType.Value(f"DT_{dtype}")
            for size in shape:
                infos[key].tensor_shape.dim.add(size=size)
    return definition


def _serve_fake(x, word):
    if len(x) != len(word):
        raise ValueError("lengths differ")
    shout = np.array([item.upper() for item in word] + [None], dtype=object)[:-1]
    return {"score": scores({"x": x, "word": word}), "shout": shout}


def fake_small(**others) -> FakeModel:
    """The fake of the SavedModel's `serving_default` and `total`."""
    takes = {"x": ("FLOAT", (-1, 2)), "word": ("STRING", (-1,))}
    return FakeModel(
        serving_default=(
            takes,
            {"score": ("FLOAT", (-1,)), "shout": ("STRING", (-1,))},
            _serve_fake,
        ),
        total=(
            {"x": ("FLOAT", (-1, 2))},
            {"total": ("FLOAT", ())},
            lambda x: {"total": np.asarray(x.sum(), dtype=np.float32)},
        ),
        **others,
    )


class Upstream(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """A TensorFlow Serving server in this process, on top of a LoadedModel.

    Attributes:
        states: what GetModelStatus says next; the last one stays.
        answers_version: what the answers say; None for the version asked for.
        requests: PredictRequests that came.
    """

    def __init__(self, model) -> None:
        self.model, self.requests, self.answers_version = model, [], None
        self.states = [(VersionState.AVAILABLE, Code.OK, "")]
        self.delay = None
        self.address = ""

    async def Predict(self, request, context):  # noqa: N802 - gRPC's name
        self.requests.append(request)
        if self.delay is not None:
            await self.delay.wait()
        given = {key: to_tensor(proto) for key, proto in request.inputs.items()}
        spec = request.model_spec
        try:
            found = await self.model.run(spec.signature_name, given, request.output_filter)
        except ServingError as error:
            await context.abort(grpc_code(error.code), error.message)
        response = predict_pb2.PredictResponse(model_spec=spec)
        if self.answers_version is not None:
            response.model_spec.version.value = self.answers_version
        for key, array in found.items():
            response.outputs[key].CopyFrom(to_proto(array))
        return response

    async def GetModelMetadata(self, request, context):  # noqa: N802 - gRPC's name
        response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=request.model_spec)
        packed = get_model_metadata_pb2.SignatureDefMap()
        for key, definition in self.model.signature_def.items():
            packed.signature_def[key].CopyFrom(definition)
        response.metadata["signature_def"].Pack(packed)
        return response

    async def GetModelStatus(self, request, context):  # noqa: N802 - gRPC's name
        state, code, message = self.states[0]
        if len(self.states) > 1:
            self.states.pop(0)
        if code == Code.NOT_FOUND:
            await context.abort(grpc.StatusCode.NOT_FOUND, message)
        response = get_model_status_pb2.GetModelStatusResponse()
        response.model_version_status.add(
            version=request.model_spec.version.value,
            state=state,
            status={"error_code": int(code), "error_message": message},
        )
        return response


def grpc_code(code):
    """The same code in gRPC's own enumeration."""
    return next(item for item in grpc.StatusCode if item.value[0] == code)


@contextlib.asynccontextmanager
async def serving(model, credentials=None):
    """Serves a model upstream while the block runs."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    upstream = Upstream(model)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(upstream, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(upstream, server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    upstream.address = f"127.0.0.1:{port}"
    await server.start()
    try:
        yield upstream
    finally:
        await server.stop(0)


@pytest.fixture
def make_inputs():
    """The function `inputs`."""
    return inputs


@pytest.fixture
def expected_scores():
    """The function `scores`."""
    return scores


@pytest.fixture
def fake_model():
    """The class FakeModel."""
    return FakeModel


@pytest.fixture
def make_fake_small():
    """The function `fake_small`."""
    return fake_small


@pytest.fixture
def serve_upstream():
    """The function `serving`."""
    return serving
