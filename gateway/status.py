"""What is known of each version of a model, and the port of whoever manages them. No IO here."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from tfx_encore.gateway.errors import Code


class VersionState(IntEnum):
    """The states of tensorflow.serving.ModelVersionStatus.State; they only ever grow."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class VersionStatus(NamedTuple):
    """What is known of one version.

    Attributes:
        version: which.
        state: where it is in its life.
        code: OK, or what went wrong.
        message: of what went wrong; empty if nothing did.
    """

    version: int
    state: VersionState
    code: Code = Code.OK
    message: str = ""


class Models(Protocol):
    """Whoever loads and unloads versions, as the wire services see it. Used on the event loop."""

    def status(
        self, model: str, version: int | None = None, label: str | None = None
    ) -> list[VersionStatus]:
        """Returns the versions that are known, the newest first.

        Raises:
            ServingError: NOT_FOUND, no such model, version or label.
        """
        ...

    async def reload(self, config: Any) -> None:
        """Serves what a `tensorflow.serving.ModelServerConfig` says, from now on.

        Raises:
            ServingError: INVALID_ARGUMENT, the configuration cannot be.
        """
        ...
