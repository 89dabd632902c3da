"""Which names may become labels: those of things that exist. No IO here.

Clients can ask for any model, version and signature. A name becomes a label only after a request of
that name was answered, or whoever manages models spoke of it; others are written as the empty name,
and version 0.
"""

from __future__ import annotations

from collections.abc import Callable

MOST_MODELS = 1000
MOST_SIGNATURES = 256  # by model
MOST_METHODS = 32
ENDED_KEPT = 3  # versions that have ended whose numbers are still shown, by model
OTHER = "other"


class Names:
    """The names that are known.

    Args:
        forget: told a model and a version whose numbers are no longer shown.
    """

    def __init__(self, forget: Callable[[str, int], None]) -> None:
        self._forget = forget
        self._versions: dict[str, set[int]] = {}
        self._signatures: dict[str, set[str]] = {}
        self._ended: dict[str, list[int]] = {}
        self._methods: set[str] = set()

    def model(self, model: str) -> str:
        """Returns a model's name as a label."""
        return model if model in self._versions else ""

    def version(self, model: str, version: int) -> int:
        """Returns a version as a label."""
        return version if version in self._versions.get(model, ()) else 0

    def signature(self, model: str, signature: str) -> str:
        """Returns a signature's name as a label."""
        return signature if signature in self._signatures.get(model, ()) else ""

    def method(self, method: str) -> str:
        """Returns a method's name as a label; methods come from the services, not from clients."""
        if method not in self._methods:
            if len(self._methods) >= MOST_METHODS:
                return OTHER
            self._methods.add(method)
        return method

    def learn(self, model: str, version: int = 0, signature: str = "") -> str:
        """Learns names of things that exist; returns the model's as a label."""
        versions = self._versions.get(model)
        if versions is None:
            if not model or len(self._versions) >= MOST_MODELS:
                return ""
            versions = self._versions[model] = set()
            self._signatures[model] = set()
        if version:
            versions.add(version)
        signatures = self._signatures[model]
        if signature and len(signatures) < MOST_SIGNATURES:
            signatures.add(signature)
        return model

    def began(self, model: str, version: int) -> None:
        """A version is being loaded, perhaps once more."""
        self.learn(model, version)
        ended = self._ended.get(model, [])
        if version in ended:
            ended.remove(version)

    def ended(self, model: str, version: int) -> None:
        """A version is gone; the numbers of those that went long before are forgotten."""
        ended = self._ended.setdefault(model, [])
        if version not in ended:
            ended.append(version)
        while len(ended) > ENDED_KEPT:
            gone = ended.pop(0)
            self._versions.get(model, set()).discard(gone)
            self._forget(model, gone)
