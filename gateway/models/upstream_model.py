"""Adapter: a model in a TensorFlow Serving server, over gRPC. asyncio.

Each request names the version, and each answer must name it too: which model answered is certain
even while the upstream server loads and unloads versions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc
from pydantic import BaseModel, ConfigDict, Field
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.inference import check_inputs, check_outputs
from tfx_encore.gateway.models.signature_reading import signatures_of
from tfx_encore.gateway.signature import Array, Signature, Tensors
from tfx_encore.gateway.status import VersionState
from tfx_encore.gateway.tensor_proto import to_proto, to_tensor
from tfx_encore.schemas.errors import ConfigError, DataError

log = logging.getLogger("tfx_encore.gateway")

T = TypeVar("T")

_SERVICE = "/tensorflow.serving."
_SIGNATURES = "signature_def"
# Larger messages are written and read in another thread, so that hits do not wait for them.
_LARGE_BYTES = 256 * 1024
# While a version is being loaded these may pass by themselves.
_PASSING = {Code.NOT_FOUND, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}


class UpstreamTls(BaseModel):
    """How the upstream server is trusted, and how we show who we are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca_file: Path | None = Field(
        default=None, description="PEM of whom to trust; none for the system's own list."
    )
    certificate_file: Path | None = Field(
        default=None, description="PEM of our certificate, where the server asks for one."
    )
    key_file: Path | None = Field(default=None, description="PEM of its private key.")
    server_name: str | None = Field(
        default=None, description="Name in the server's certificate, if not that of the address."
    )

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files.

        Raises:
            ConfigError: one of them cannot be read.
        """
        files = (self.ca_file, self.key_file, self.certificate_file)
        return grpc.ssl_channel_credentials(*(_read_pem(file) for file in files))


class UpstreamLoader:
    """Uses the versions that a TensorFlow Serving server has loaded.

    Args:
        address: as gRPC takes it: `host:port`, `unix:path`, `dns:///name:port`.
        deadline_seconds: of each call.
        load_seconds: how long the server may take to make a version AVAILABLE.
        poll_seconds: pause between two looks at its status.
        tls: None for plain text.
    """

    def __init__(
        self,
        address: str,
        deadline_seconds: float = 60.0,
        load_seconds: float = 600.0,
        poll_seconds: float = 0.5,
        tls: UpstreamTls | None = None,
    ) -> None:
        self._address = address
        self._deadline = deadline_seconds
        self._load_seconds = load_seconds
        self._poll_seconds = poll_seconds
        self._tls = tls
        self._rpc: _Rpc | None = None

    async def load(self, name: str, version: int, path: str) -> UpstreamModel:
        """Waits until the server answers with a version, and reads its signatures.

        Args:
            name: the model's name, there as here.
            version: its version.
            path: of the SavedModel; if it can be read here, the server must have the same
                signatures.

        Raises:
            ServingError: the server cannot load it, does not in time, or serves something else.
        """
        rpc = self._connected()
        await self._wait(rpc, name, version)
        definitions = await _metadata(rpc, name, version)
        await asyncio.to_thread(_check_same, definitions, path, f"{name}/{version}", self._address)
        return UpstreamModel(name, version, definitions, rpc)

    async def close(self) -> None:
        """Closes the connection; the models are closed before."""
        if self._rpc is not None:
            await self._rpc.channel.close()
            self._rpc = None

    def _connected(self) -> _Rpc:
        # Made late: a channel belongs to the event loop that it is made in.
        if self._rpc is None:
            options = [
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ]
            if self._tls is None:
                channel = grpc.aio.insecure_channel(self._address, options)
            else:
                if self._tls.server_name:
                    options.append(("grpc.ssl_target_name_override", self._tls.server_name))  # type: ignore[arg-type]
                channel = grpc.aio.secure_channel(self._address, self._tls.credentials(), options)
            self._rpc = _Rpc(channel, self._deadline)
        return self._rpc

    async def _wait(self, rpc: _Rpc, name: str, version: int) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._load_seconds
        while True:
            seen = await _status(rpc, name, version)
            if seen is None:
                return
            if loop.time() + self._poll_seconds > end:
                raise ServingError(
                    Code.UNAVAILABLE,
                    f"{name}/{version} is not AVAILABLE at {self._address} after "
                    f"{self._load_seconds:g} s: {seen}",
                )
            await asyncio.sleep(self._poll_seconds)


class UpstreamModel:
    """One version in a TensorFlow Serving server. Made by `UpstreamLoader`.

    Attributes: as in `model_port.LoadedModel`.
    """

    def __init__(self, name: str, version: int, definitions: Mapping[str, Any], rpc: _Rpc) -> None:
        self.name = name
        self.version = version
        self.signature_def = definitions
        self.signatures: Mapping[str, Signature] = signatures_of(definitions)
        self._rpc = rpc

    async def run(
        self, signature: str, inputs: Tensors, outputs: Sequence[str]
    ) -> dict[str, Array]:
        """Asks the server for one batch.

        Raises:
            ServingError: what the server says; INTERNAL if another version answered.
        """
        known = self.signatures.get(signature)
        if known is None:
            raise ServingError(
                Code.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.'
            )
        check_inputs(known, inputs)
        wanted = check_outputs(known, outputs)
        size = sum(array.nbytes for array in inputs.values())
        request = await _aside(size, lambda: self._request(signature, inputs, wanted))
        data = await self._rpc.call("PredictionService/Predict", request)
        return await _aside(len(data), lambda: self._answer(data, wanted))

    async def close(self) -> None:
        """Nothing to let go of: the server decides what it keeps loaded."""

    def _request(self, signature: str, inputs: Tensors, outputs: Sequence[str]) -> bytes:
        request = predict_pb2.PredictRequest(output_filter=outputs)
        request.model_spec.name = self.name
        request.model_spec.version.value = self.version
        request.model_spec.signature_name = signature
        try:
            for name, array in inputs.items():
                request.inputs[name].CopyFrom(to_proto(array))
        except DataError as error:
            raise ServingError(Code.INVALID_ARGUMENT, str(error)) from error
        return bytes(request.SerializeToString())

    def _answer(self, data: bytes, outputs: Sequence[str]) -> dict[str, Array]:
        response = predict_pb2.PredictResponse.FromString(data)
        answered = response.model_spec.version.value
        if answered != self.version:
            raise ServingError(
                Code.INTERNAL,
                f"version {answered} of {self.name} answered where {self.version} was asked for",
            )
        missing = sorted(set(outputs) - set(response.outputs))
        if missing:
            raise ServingError(Code.INTERNAL, f"{self.name} answered without the outputs {missing}")
        try:
            return {name: to_tensor(response.outputs[name]) for name in outputs}
        except DataError as error:
            raise ServingError(Code.INTERNAL, f"an answer of {self.name}: {error}") from error


class _Rpc:
    """Calls by bytes, with a deadline, whose errors are ServingErrors."""

    def __init__(self, channel: grpc.aio.Channel, deadline_seconds: float) -> None:
        self.channel = channel
        self._deadline = deadline_seconds
        self._methods: dict[str, Callable[..., Awaitable[bytes]]] = {}

    async def call(self, method: str, request: bytes) -> bytes:
        """Returns the response's bytes.

        Raises:
            ServingError: in the server's code and words.
        """
        send = self._methods.get(method)
        if send is None:
            send = self._methods[method] = self.channel.unary_unary(_SERVICE + method)
        try:
            return await send(request, timeout=self._deadline)
        except grpc.aio.AioRpcError as error:
            raise ServingError(Code(error.code().value[0]), error.details() or "") from error


async def _aside(size: int, work: Callable[[], T]) -> T:
    """Does work on so many bytes: here if they are few, else in another thread."""
    return work() if size < _LARGE_BYTES else await asyncio.to_thread(work)


async def _status(rpc: _Rpc, name: str, version: int) -> str | None:
    """Returns None if a version is AVAILABLE, else what is known of it while it may become so.

    Raises:
        ServingError: it will not: the server tried and says why.
    """
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    request.model_spec.version.value = version
    try:
        data = await rpc.call("ModelService/GetModelStatus", request.SerializeToString())
    except ServingError as error:
        if error.code in _PASSING:
            return error.message
        raise
    response = get_model_status_pb2.GetModelStatusResponse.FromString(data)
    found = next((s for s in response.model_version_status if s.version == version), None)
    if found is None or found.state == VersionState.UNKNOWN:
        return "the server does not know it"
    if found.state == VersionState.AVAILABLE:
        return None
    if found.state == VersionState.END and found.status.error_code:
        raise ServingError(Code(found.status.error_code), found.status.error_message)
    return f"its state is {VersionState(found.state).name}"


async def _metadata(rpc: _Rpc, name: str, version: int) -> dict[str, Any]:
    """Returns the SignatureDefs of a version.

    Raises:
        ServingError: the server does not say, or speaks of another version.
    """
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=[_SIGNATURES])
    request.model_spec.name = name
    request.model_spec.version.value = version
    data = await rpc.call("PredictionService/GetModelMetadata", request.SerializeToString())
    response = get_model_metadata_pb2.GetModelMetadataResponse.FromString(data)
    packed = get_model_metadata_pb2.SignatureDefMap()
    if not response.metadata[_SIGNATURES].Unpack(packed):
        raise ServingError(Code.INTERNAL, f"the metadata of {name}/{version} has no signatures")
    if response.model_spec.version.value != version:
        raise ServingError(
            Code.INTERNAL,
            f"the metadata of {name}/{version} is that of version "
            f"{response.model_spec.version.value}",
        )
    return dict(packed.signature_def)


def _check_same(definitions: Mapping[str, Any], path: str, what: str, address: str) -> None:
    """Compares what the server serves with the SavedModel here, whose answers it is to give.

    Raises:
        ServingError: FAILED_PRECONDITION, they are not the same model.
    """
    file = Path(path) / "saved_model.pb"
    try:
        saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except Exception as error:  # noqa: BLE001 - what cannot be read cannot be compared
        log.debug("upstream signatures not compared model=%s reason=%r", what, str(error))
        return
    graphs = [meta for meta in saved.meta_graphs if "serve" in meta.meta_info_def.tags]
    if graphs and signatures_of(graphs[0].signature_def) != signatures_of(definitions):
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"{what} at {address} has other signatures than {path}; let both serve the same files",
        )


def _read_pem(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}; name a PEM file", file=str(file)
        ) from error
