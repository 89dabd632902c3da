"""What CacheWarmer knows of the candidate before it reads any data."""

from __future__ import annotations

from dataclasses import dataclass

from tfx_encore.cache.keys import canonical_filter
from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.cache.saved_model_graph import GraphReading, load_meta_graph, read_signature
from tfx_encore.metadata.fingerprint import fingerprint_saved_model
from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.warmup_policy import WarmupPolicy


@dataclass(frozen=True)
class Plan:
    """The candidate and how its rows are made.

    Attributes:
        path: of the SavedModel.
        fingerprint: of its content.
        readings: of the signatures to warm, in the order of their indices.
        transform: reading of the transform signature; None if there is none, or if it is not
            computed from Examples that the first signature takes too.
        output_filter: sorted.
    """

    path: str
    fingerprint: str
    readings: tuple[GraphReading, ...]
    transform: GraphReading | None
    output_filter: tuple[str, ...]

    @property
    def specs(self) -> tuple[SignatureSpec, ...]:
        """How the rows of each signature are made."""
        return tuple(reading.spec for reading in self.readings)


def make_plan(path: str, policy: WarmupPolicy) -> Plan:
    """Reads the candidate's graph.

    Raises:
        ModelError: no SavedModel there, or it lacks a signature or output.
        ConfigError: the policy excludes a feature that a signature reads.
    """
    meta = load_meta_graph(path)
    output_filter = canonical_filter(policy.output_filter)
    readings = tuple(
        read_signature(
            meta,
            name,
            output_filter=output_filter,
            transform_signature=policy.transform_signature,
            exclude=policy.exclude_features,
        )
        for name in policy.signatures
    )
    for reading in readings:
        _check_excluded(reading, policy)
    transform = None
    name = policy.transform_signature
    if policy.measure_transformed and name and name in meta.signature_def:
        transform = read_signature(meta, name, exclude=policy.exclude_features)
        if transform.spec.form == "tensors" or readings[0].spec.form == "tensors":
            transform = None
    return Plan(path, fingerprint_saved_model(path), readings, transform, output_filter)


def _check_excluded(reading: GraphReading, policy: WarmupPolicy) -> None:
    read = sorted(set(policy.exclude_features) & set(reading.features_read or ()))
    if read:
        raise ConfigError(
            f"signature {reading.spec.signature!r} computes its answers from {read}; leaving them "
            "out of the key would give one row the answer of another",
            key="warmup.exclude_features",
        )
