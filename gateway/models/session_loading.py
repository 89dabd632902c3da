"""Opens a SavedModel as a session: graph, variables, tables, assets. Blocking. Needs TensorFlow."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow.python.saved_model import loader_impl

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.models.signature_reading import signatures_of

_TAGS = ("serve",)
# What only TensorFlow's Python puts into a message; what comes before it is the model's.
_PYTHON_NOISE = ("\nDetected at node", "\nOriginal stack trace", "\nErrors may have originated")
_SHOWN = 3


class OpenModel(NamedTuple):
    """A session and what can be asked of it.

    Attributes:
        session: a tf.compat.v1.Session, initialised.
        definitions: name -> tensorflow.SignatureDef, TensorFlow's own among them.
    """

    session: Any
    definitions: dict[str, Any]

    def close(self) -> None:
        """Lets go of the memory; a call under way ends, or fails with CANCELLED."""
        graph = self.session.graph
        self.session.close()
        # A graph and its operations refer to each other: without this they would stay until a full
        # collection, which holds every thread for a quarter of a second.
        ops.dismantle_graph(graph)


def open_model(path: str, config: Any) -> OpenModel:
    """Opens the graph tagged `serve` of a SavedModel.

    Args:
        path: of the SavedModel.
        config: tf.compat.v1.ConfigProto.

    Raises:
        ServingError: it cannot be opened; says why in one line.
    """
    session = None
    try:
        loader = loader_impl.SavedModelLoader(path)
        definitions = dict(loader.get_meta_graph_def_from_tags(_TAGS).signature_def)
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph, config=config)
        saver, _ = loader.load_graph(graph, _TAGS)
        loader.restore_variables(session, saver)
        loader.run_init_ops(session, _TAGS)
        _check_variables(session, definitions)
    except Exception as error:
        if session is not None:
            OpenModel(session, {}).close()
        raise _load_error(error, path) from error
    # Copies, so that the graph that they came with can be let go of.
    return OpenModel(session, {name: copy.deepcopy(item) for name, item in definitions.items()})


def without_noise(message: str) -> str:
    """Returns a message of TensorFlow as its own server sends it, without Python's stack."""
    for noise in _PYTHON_NOISE:
        message = message.partition(noise)[0]
    return message.removeprefix("Graph execution error:\n\n")


def _check_variables(session: Any, definitions: dict[str, Any]) -> None:
    """Refuses a model whose signatures read variables that restoring does not set.

    A tf.Module that holds a Keras 3 model is saved so (github.com/tensorflow/tensorflow/issues/
    72963); TensorFlow Serving loads it, and then fails each request.

    Raises:
        ServingError: FAILED_PRECONDITION.
    """
    handles = _variables_read(session.graph, definitions)
    if not handles:
        return
    with session.graph.as_default():
        flags = [tf.raw_ops.VarIsInitializedOp(resource=handle.outputs[0]) for handle in handles]
    is_set = session.run(flags)
    unset = sorted(handle.name for handle, flag in zip(handles, is_set, strict=True) if not flag)
    if unset:
        more = f" and {len(unset) - _SHOWN} more" if len(unset) > _SHOWN else ""
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"the variables {', '.join(unset[:_SHOWN])}{more} are read but never restored, as "
            "where a tf.Module holds a Keras 3 model; hold the model's variables instead "
            "([weight.value for weight in model.weights]), or load these files with "
            "tf.saved_model.load and save them again with its signatures",
        )


def _variables_read(graph: Any, definitions: dict[str, Any]) -> list[Any]:
    """Returns the resource variables that the signatures are computed from."""
    outputs = [i for name in signatures_of(definitions) for i in definitions[name].outputs.values()]
    stack = [graph.get_tensor_by_name(info.name).op for info in outputs if info.name]
    seen = {operation.name: operation for operation in stack}
    while stack:
        operation = stack.pop()
        for before in (*(item.op for item in operation.inputs), *operation.control_inputs):
            if before.name not in seen:
                seen[before.name] = before
                stack.append(before)
    return [operation for operation in seen.values() if operation.type == "VarHandleOp"]


def _load_error(error: Exception, path: str) -> ServingError:
    """Says why a SavedModel cannot be opened, in one line."""
    if isinstance(error, ServingError):
        return ServingError(error.code, f"{path}: {error.message}")
    text = getattr(error, "message", None) or str(error)
    if isinstance(error, tf.errors.OpError):
        code = Code(error.error_code)
    elif "could not be found in SavedModel" in text or "does not exist" in text:
        code = Code.NOT_FOUND
    else:
        code = Code.DATA_LOSS
    reason = " ".join(without_noise(text).split())
    return ServingError(code, f"{path}: {reason or type(error).__name__}")
