"""The port behind which a model runs: in this process, or in another server. No IO here.

Adapters: `local_model` (a SavedModel in this process), `upstream_model` (TensorFlow Serving over
gRPC). `tests/gateway/models` states the contract and runs it against each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from tfx_encore.gateway.signature import Array, Signature, Tensors


@runtime_checkable
class LoadedModel(Protocol):
    """One version of a model, ready to answer. Used from one event loop.

    Attributes:
        name: the model's name.
        version: its version.
        signatures: those that can be asked for, without TensorFlow's own (`__saved_model_...`).
        signature_def: `tensorflow.SignatureDef` by name, as GetModelMetadata returns it.
    """

    name: str
    version: int
    signatures: Mapping[str, Signature]
    signature_def: Mapping[str, Any]

    async def run(
        self, signature: str, inputs: Tensors, outputs: Sequence[str]
    ) -> dict[str, Array]:
        """Computes one batch, exactly as given, off the event loop.

        Args:
            signature: one of `signatures`.
            inputs: every input of the signature.
            outputs: the outputs wanted, at least one.

        Raises:
            ServingError: the model refuses the inputs (INVALID_ARGUMENT: it would each time), or
                cannot answer now (any other code).
        """
        ...

    async def close(self) -> None:
        """Lets go of the model; nobody runs it any more."""
        ...


class ModelLoader(Protocol):
    """Loads versions."""

    async def load(self, name: str, version: int, path: str) -> LoadedModel:
        """Loads a version off the event loop.

        Args:
            name: the model's name.
            version: its version.
            path: of the SavedModel.

        Raises:
            ServingError: it cannot be loaded; says why in one line.
        """
        ...
