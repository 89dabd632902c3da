"""Adapter: a SavedModel in this process, run as TensorFlow Serving runs it. Needs TensorFlow.

A session on the tensors that the SignatureDefs name, as in tensorflow_serving/servables/tensorflow/
saved_model_bundle_factory.cc: tables, assets and initialisers are honoured, and a session refuses
what TensorFlow Serving's refuses. A function of `tf.saved_model.load` would cast inputs, and costs
more than ten times as much for one row.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from tfx_encore.gateway.errors import Code, ServingError, invalid
from tfx_encore.gateway.inference import check_inputs, check_outputs
from tfx_encore.gateway.models.session_loading import OpenModel, open_model, without_noise
from tfx_encore.gateway.models.signature_reading import signatures_of
from tfx_encore.gateway.signature import Array, Signature, Tensors

log = logging.getLogger("tfx_encore.gateway")

_IN_CALLING_THREAD = -1  # ConfigProto.inter_op_parallelism_threads
# Output filters are made up by clients, and each takes a compiled graph of its own.
_MAX_CALLS = 64


class LocalLoader:
    """Loads SavedModels into this process.

    Args:
        threads: calls that are computed at once, over all models.
        intra_op: threads that share one operation (a large matrix); 0 for one for each core. The
            first model loaded decides for the whole process.
        inter_op: threads that share the operations of one call; 0 computes each call in its own
            thread, which is cheapest for all but wide, slow graphs.
        load_threads: models that are loaded or let go of at once.
    """

    def __init__(
        self, threads: int = 2, intra_op: int = 0, inter_op: int = 0, load_threads: int = 1
    ) -> None:
        self._config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=intra_op,
            inter_op_parallelism_threads=inter_op or _IN_CALLING_THREAD,
        )
        self._pool = ThreadPoolExecutor(threads, "model")
        self._load_pool = ThreadPoolExecutor(load_threads, "model-load")

    async def load(self, name: str, version: int, path: str) -> LocalModel:
        """Loads a version off the event loop.

        Raises:
            ServingError: it cannot be loaded; says why in one line.
        """
        loop = asyncio.get_running_loop()
        loading = loop.run_in_executor(self._load_pool, open_model, path, self._config)
        try:
            loaded = await asyncio.shield(loading)
        except asyncio.CancelledError:
            loading.add_done_callback(_let_go)
            raise
        return LocalModel(name, version, loaded, self._pool, self._load_pool)

    def close(self) -> None:
        """Stops the threads once they are idle; the models are closed before."""
        self._pool.shutdown(wait=False)
        self._load_pool.shutdown(wait=False)


class _Call(NamedTuple):
    """A compiled part of the graph: the inputs in their order, the outputs in theirs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    compute: Callable[..., list[Any]]


class LocalModel:
    """One version in this process. Made by `LocalLoader`.

    Attributes: as in `model_port.LoadedModel`.
    """

    def __init__(
        self,
        name: str,
        version: int,
        loaded: OpenModel,
        pool: ThreadPoolExecutor,
        load_pool: ThreadPoolExecutor,
    ) -> None:
        self.name = name
        self.version = version
        self.signature_def: Mapping[str, Any] = loaded.definitions
        self.signatures: Mapping[str, Signature] = signatures_of(loaded.definitions)
        self._loaded: OpenModel | None = loaded
        self._pool = pool
        self._load_pool = load_pool
        self._calls: dict[tuple[str, tuple[str, ...]], _Call] = {}
        self._lock = threading.Lock()

    async def run(
        self, signature: str, inputs: Tensors, outputs: Sequence[str]
    ) -> dict[str, Array]:
        """Computes one batch, exactly as given, in another thread.

        Raises:
            ServingError: as TensorFlow's session says it.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._run, signature, inputs, outputs)

    async def close(self) -> None:
        """Lets go of the model's memory. A call that nobody waits for any more may still end."""
        loaded, self._loaded = self._loaded, None
        self._calls.clear()
        if loaded is None:
            return
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._load_pool, loaded.close)
        del loaded
        await loop.run_in_executor(self._load_pool, _trim_memory)

    def _run(self, signature: str, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        call = self._calls.get((signature, tuple(outputs))) or self._call(signature, outputs)
        if inputs.keys() != set(call.inputs):
            check_inputs(self.signatures[signature], inputs)
        try:
            values = call.compute(*[_native(inputs[name]) for name in call.inputs])
        except Exception as error:
            raise _as_serving_error(error) from error
        found = dict(zip(call.outputs, map(_as_array, values), strict=True))
        return {name: found[name] for name in outputs}

    def _call(self, signature: str, outputs: Sequence[str]) -> _Call:
        """Compiles what computes some outputs of a signature, or finds it."""
        known = self.signatures.get(signature)
        if known is None:
            raise ServingError(
                Code.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.'
            )
        wanted = check_outputs(known, outputs)
        with self._lock:
            if (signature, wanted) not in self._calls and len(self._calls) >= _MAX_CALLS:
                wanted = tuple(known.outputs)
            call = self._calls.get((signature, wanted))
            if call is None:
                call = self._calls[signature, wanted] = self._compile(known, wanted)
            return call

    def _compile(self, signature: Signature, outputs: tuple[str, ...]) -> _Call:
        if self._loaded is None:
            raise ServingError(Code.UNAVAILABLE, f"{self.name}/{self.version} is unloaded")
        definition = self._loaded.definitions[signature.name]
        names = tuple(signature.inputs)
        options = config_pb2.CallableOptions(
            feed=[definition.inputs[name].name for name in names],
            fetch=[definition.outputs[name].name for name in outputs],
        )
        try:
            compute = self._loaded.session._make_callable_from_options(options)  # noqa: SLF001
        except Exception as error:
            raise _as_serving_error(error) from error
        return _Call(names, outputs, compute)


def _let_go(loading: asyncio.Future[OpenModel]) -> None:
    """Closes a model that was loaded for nobody."""
    if not loading.cancelled() and loading.exception() is None:
        loading.result().close()


def _as_serving_error(error: Exception) -> ServingError:
    """Translates what a session raises; the message is TensorFlow's, as its own server sends it."""
    if isinstance(error, ServingError):
        return error
    if isinstance(error, tf.errors.OpError):
        return ServingError(Code(error.error_code), without_noise(error.message))
    if isinstance(error, UnicodeDecodeError):
        # An operation quotes the input that it refuses, and TensorFlow fails to make text of it;
        # the code is lost on the way, and this is the only one that quotes inputs.
        return invalid(without_noise(bytes(error.object).decode("utf-8", "replace")))
    if isinstance(error, MemoryError):
        return ServingError(Code.RESOURCE_EXHAUSTED, "out of memory")
    return ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")


def _native(array: Array) -> Array:
    """TensorFlow reads numbers of the other byte order as if they were of its own."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _as_array(value: Any) -> Array:
    """A session gives scalars without their array."""
    if isinstance(value, np.ndarray):
        return value
    return np.array(value, dtype=object if isinstance(value, (bytes, str)) else None)


def _trim_memory() -> None:
    """Gives freed pages back to the system; malloc keeps them otherwise (malloc_trim(3))."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        log.debug("this C library has no malloc_trim")
