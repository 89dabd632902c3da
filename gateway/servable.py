"""One version of a model that answers: what is loaded, how it is cached. No IO here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.keys import KeyMaker, canonical_filter
from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.cache.tf_example import ExampleRows
from tfx_encore.gateway.batching_port import Runner
from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.model_port import LoadedModel
from tfx_encore.gateway.signature import DEFAULT_SIGNATURE, Signature

CacheMode = Literal["rows", "requests", "off"]

# Outputs are asked for by few filters; a client that makes up more costs itself the hashing.
_MAX_FILTERS = 64


@dataclass(frozen=True)
class Plan:
    """How the answers of one signature are cached.

    Attributes:
        mode: by `rows`, by whole `requests`, or `off`.
        spec: how rows are made; None unless the mode is `rows`.
        reason: one line for a person: why this mode.
    """

    mode: CacheMode
    spec: SignatureSpec | None = None
    reason: str = ""


OFF = Plan("off")


class Servable:
    """One version of a model that answers.

    Args:
        model: what is loaded.
        fingerprint: digest of its content; what cached answers belong to.
        plans: signature -> how its answers are cached; those left out are not.
        cache: of all versions of the model; None if nothing of it is cached.
        merged: computes rows together with those of other requests.
        alone: computes a request by itself.
        path: of the SavedModel; empty if it is not known.
    """

    def __init__(
        self,
        model: LoadedModel,
        fingerprint: str,
        *,
        plans: Mapping[str, Plan],
        cache: InferenceCache | None,
        merged: Runner,
        alone: Runner,
        path: str = "",
    ) -> None:
        self.model = model
        self.name = model.name
        self.version = model.version
        self.fingerprint = fingerprint
        self.plans = plans
        self.cache = cache
        self.merged = merged
        self.alone = alone
        self.path = path
        self.in_flight = 0
        self.warmed = 0
        self._readers: dict[str, ExampleRows] = {}
        self._makers: dict[tuple[str, tuple[str, ...]], KeyMaker] = {}

    # Attributes beside the arguments: `in_flight`, requests that compute by this version now;
    # `warmed`, answers of it that a snapshot brought.

    def __repr__(self) -> str:
        return f"Servable({self.name}/{self.version} {self.fingerprint[:19]})"

    def signature(self, name: str) -> Signature:
        """Returns a signature; empty for the default one.

        Raises:
            ServingError: FAILED_PRECONDITION, the model has none of this name.
        """
        wanted = name or DEFAULT_SIGNATURE
        found = self.model.signatures.get(wanted)
        if found is None:
            raise ServingError(
                Code.FAILED_PRECONDITION, f'Serving signature key "{wanted}" not found.'
            )
        return found

    def plan(self, signature: str) -> Plan:
        """How a signature's answers are cached."""
        return OFF if self.cache is None else self.plans.get(signature, OFF)

    def maker(self, signature: str, output_filter: Sequence[str]) -> KeyMaker:
        """Makes the keys of rows, or of whole requests, as the plan says."""
        wanted = (signature, canonical_filter(output_filter))
        maker = self._makers.get(wanted)
        if maker is None:
            # No signature is named so: a row's key and a request's are never the same.
            suffix = "\0request" if self.plan(signature).mode == "requests" else ""
            maker = KeyMaker(self.fingerprint, signature + suffix, wanted[1])
            if len(self._makers) < _MAX_FILTERS:
                self._makers[wanted] = maker
        return maker

    def reader(self, spec: SignatureSpec) -> ExampleRows:
        """Makes the rows of the Examples that one of this version's signatures takes."""
        reader = self._readers.get(spec.signature)
        if reader is None:
            reader = self._readers[spec.signature] = ExampleRows(spec)
        return reader
