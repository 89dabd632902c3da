"""A gateway of fake models on a real socket, and a client that sends bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pytest
import uvloop

from tfx_encore.cache.cache_policy import CachePolicy
from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.memory_store import MemoryStore
from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.gateway.errors import Code, ServingError, invalid
from tfx_encore.gateway.observer import GatewayObserver
from tfx_encore.gateway.rest.http_message import HttpPolicy
from tfx_encore.gateway.rest.listen import serve_rest
from tfx_encore.gateway.rest.service import RestService
from tfx_encore.gateway.routing import Router, Routes
from tfx_encore.gateway.servable import Plan, Servable
from tfx_encore.gateway.signature import CLASSIFY, PREDICT, REGRESS, Signature, TensorSpec
from tfx_encore.gateway.status import VersionState, VersionStatus

T = TypeVar("T")
PATH = "/v1/models/m:predict"


class FakeModel:
    """Answers each row with its version; refuses negative ones; waits for `gate` before it does."""

    def __init__(self, version: int, name: str = "m") -> None:
        self.name = name
        self.version = version
        x, y = {"x": TensorSpec("float32", (-1,))}, {"y": TensorSpec("float32", (-1,))}
        text = {"inputs": TensorSpec("string", (-1,))}
        labels = {
            "classes": TensorSpec("string", (-1, 1)),
            "scores": TensorSpec("float32", (-1, 1)),
        }
        numbers = {"outputs": TensorSpec("float32", (-1, 1))}
        self.signatures = {
            "serving_default": Signature("serving_default", PREDICT, x, y),
            "off": Signature("off", PREDICT, x, y),
            "classify": Signature("classify", CLASSIFY, text, labels),
            "regress": Signature("regress", REGRESS, text, numbers),
        }
        self.signature_def: Mapping[str, Any] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls = 0
        self.broken = False

    async def run(
        self, signature: str, inputs: Mapping[str, Any], outputs: Sequence[str]
    ) -> dict[str, Any]:
        self.calls += 1
        await self.gate.wait()
        if self.broken:
            raise RuntimeError("a bug")
        value = next(iter(inputs.values()))
        if signature in ("classify", "regress"):
            return self._of_examples(signature, len(value))
        if (value < 0).any():
            raise invalid("negative")
        if (value == 13).any():
            raise ServingError(Code.UNAVAILABLE, "not now")
        return {"y": np.full(len(value), self.version, np.float32)}

    def _of_examples(self, signature: str, rows: int) -> dict[str, Any]:
        values = np.full((rows, 1), self.version, np.float32)
        if signature == "regress":
            return {"outputs": values}
        return {"classes": np.full((rows, 1), b"yes", object), "scores": values}

    async def close(self) -> None:
        return None


class FakeStatus:
    """One version that is available."""

    def status(
        self, model: str, version: int | None = None, label: str | None = None
    ) -> list[VersionStatus]:
        if model != "m":
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {model}")
        return [VersionStatus(version or 1, VersionState.AVAILABLE)]

    async def reload(self, config: Any) -> None:
        raise NotImplementedError


class Told(GatewayObserver):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.counted: list[tuple[str, int, int]] = []

    def request(self, **told: Any) -> None:
        self.requests.append(told)

    def rows(self, model: str, hits: int, rows: int) -> None:
        self.counted.append((model, hits, rows))


class Gateway:
    """A router with fake models, and the service in front of it."""

    def __init__(self, log: Any = None, **options: Any) -> None:
        self.router = Router()
        policy = CachePolicy(early_refresh=0.0)
        self.cache = InferenceCache("m", [MemoryStore(2**24)], policy=policy)
        self.told = Told()
        self.service = RestService(self.router, FakeStatus(), self.told, log, **options)
        self.port = 0
        self.listener: Any = None

    def servable(self, version: int, **changes: Any) -> Servable:
        model = FakeModel(version)
        spec = SignatureSpec(
            "serving_default", "tensors", "", (FeatureSpec("x", "tensor", "float32"),)
        )
        plans = {"serving_default": Plan("rows", spec), "classify": Plan("requests")}
        parts = {"plans": plans, "cache": self.cache, "merged": model, "alone": model} | changes
        return Servable(model, f"sha256:{version:064x}", **parts)

    def publish(self, *servables: Servable, labels: Mapping[str, int] | None = None) -> None:
        self.router.publish("m", Routes({one.version: one for one in servables}, labels or {}))

    def serve(self, version: int) -> FakeModel:
        """Makes a version the only one; returns its model."""
        servable = self.servable(version)
        self.publish(servable)
        return servable.model  # type: ignore[return-value]


class Response(NamedTuple):
    """A response as it was read."""

    status: int
    headers: dict[str, str]
    body: bytes
    head: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A connection that sends and reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read(self, *, has_body: bool = True, seconds: float = 20) -> Response:
        """Reads one response."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), seconds)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        size = int(headers.get("content-length", 0)) if has_body else 0
        body = await asyncio.wait_for(self.reader.readexactly(size), seconds)
        return Response(int(first.split(" ")[1]), headers, body, head)

    async def ask(self, body: Any = None, path: str = PATH, **headers: str) -> Response:
        """Sends a POST and reads its response."""
        await self.send(post(body, path, **headers))
        return await self.read()

    async def get(self, path: str, method: str = "GET", **headers: str) -> Response:
        lines = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in headers.items())
        await self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        return await self.read(has_body=method != "HEAD")

    async def is_closed(self) -> bool:
        """True if the server has closed the connection and sent nothing more."""
        try:
            return await asyncio.wait_for(self.reader.read(1), 20) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.writer.close()


def post(body: Any, path: str = PATH, **headers: str) -> bytes:
    """A POST as bytes; a body that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in headers.items())
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(data)}\r\n\r\n".encode()
        + data
    )


def rows(*values: float) -> dict[str, Any]:
    return {"instances": list(values)}


class Wire:
    """What the tests of a wire are made of."""

    path = PATH
    Gateway = Gateway
    Model = FakeModel
    Client = Client
    post = staticmethod(post)
    rows = staticmethod(rows)

    @staticmethod
    def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs a test on uvloop, bounded in time."""

        async def bounded() -> T:
            return await asyncio.wait_for(work(), 120)

        return uvloop.run(bounded())

    @staticmethod
    @asynccontextmanager
    async def serving(
        gateway: Gateway | None = None, policy: HttpPolicy | None = None, **listen: Any
    ) -> AsyncIterator[Gateway]:
        """A gateway with version 1 of the model, listening; closed at the end."""
        if gateway is None:
            gateway = Gateway()
        if not gateway.router.models():
            gateway.serve(1)
        gateway.listener = await serve_rest(
            gateway.service, "127.0.0.1", 0, policy=policy, **listen
        )
        gateway.port = gateway.listener.port
        try:
            yield gateway
        finally:
            await gateway.listener.close(0.0)
            await gateway.cache.close()
            gateway.service.close()

    @staticmethod
    async def connect(gateway: Gateway, **how: Any) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", gateway.port, **how))

    @staticmethod
    async def until(is_true: Callable[[], bool]) -> None:
        """Waits for something to become true."""
        for _ in range(4000):
            if is_true():
                return
            await asyncio.sleep(0.005)
        raise AssertionError("it did not come true")


@pytest.fixture(scope="session")
def wire() -> type[Wire]:
    return Wire
