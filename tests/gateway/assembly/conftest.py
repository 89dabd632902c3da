"""A whole gateway in this process: real models, real release directory, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

STEP = 1000


def _save(folder, number):
    import tensorflow as tf

    class Model(tf.Module):
        """Answers `x * 2 + number * STEP`; by buckets of `miles`; and something random."""

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.float32, name="x"),
            ]
        )
        def serve(self, x):
            return {"y": x * 2 + number * STEP}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="miles")])
        def bucketed(self, miles):
            bucket = tf.raw_ops.Bucketize(input=miles, boundaries=[1.0, 5.0])
            return {"bucket": bucket + number * STEP}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def noisy(self, x):
            return {"y": x + tf.random.uniform(tf.shape(x))}

    model = Model()
    signatures = {
        "serving_default": model.serve,
        "bucketed": model.bucketed,
        "noisy": model.noisy,
    }
    tf.saved_model.save(model, str(folder), signatures=signatures)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Directories of two versions, numbered."""
    folder = tmp_path_factory.mktemp("models")
    for number in (1, 2):
        _save(folder / str(number), number)
    return folder


@pytest.fixture
def releases(models, tmp_path):
    """A release directory of model `m` with version 1 live; `.push(2)` pushes the next."""
    from tfx_encore.metadata.release_push import PushRequest
    from tfx_encore.metadata.releases import ReleaseDirectory

    directory = ReleaseDirectory(tmp_path / "releases", "m")

    def push(number):
        assert directory.push(PushRequest(models / str(number), keep=5)).version == number

    push(1)
    return SimpleNamespace(root=tmp_path / "releases", directory=directory, push=push)


class Client:
    """Asks one gateway, off its event loop."""

    def __init__(self, server):
        self.server = server

    async def ask(self, path, body=None):
        """Returns status, headers, parsed body."""
        return await asyncio.to_thread(self._ask, path, body)

    async def predict(self, *values, signature="serving_default", name="m", form="instances"):
        """Returns the predictions and what the cache says."""
        body = {"signature_name": signature, form: list(values)}
        _, headers, answer = await self.ask(f"/v1/models/{name}:predict", body)
        return answer["predictions"], headers["x-encore-cache"]

    def _ask(self, path, body):
        url = f"http://127.0.0.1:{self.server.rest_port}{path}"
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data), timeout=30) as answer:
                return answer.status, answer.headers, _parsed(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, error.headers, _parsed(error.read())


def _parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return text.decode()


@pytest.fixture
def serving():
    """`async with serving(**settings) as client`: a gateway that answers."""

    @contextlib.asynccontextmanager
    async def serving(**settings):
        from tfx_encore.gateway.server import GatewayServer
        from tfx_encore.gateway.settings import GatewaySettings

        given = {"host": "127.0.0.1", "rest_api_port": 0, "port": None} | settings
        server = GatewayServer(GatewaySettings(**given))
        await server.start()
        try:
            yield Client(server)
        finally:
            await server.stop(1.0)

    return serving


@pytest.fixture
def until():
    """`await until(lambda: ...)`: waits, at most 30 s, until an awaited condition holds."""

    async def until(condition):
        for _ in range(600):
            if await condition():
                return
            await asyncio.sleep(0.05)
        raise AssertionError("it never came to be")

    return until
