"""The port behind which misses of several requests become one batch. No IO here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tfx_encore.gateway.signature import Array, Tensors


class Runner(Protocol):
    """Computes inputs by a model, perhaps together with others' inputs."""

    async def run(
        self, signature: str, inputs: Tensors, outputs: Sequence[str]
    ) -> dict[str, Array]:
        """As `model_port.LoadedModel.run`; the outputs have the rows of these inputs only."""
        ...
