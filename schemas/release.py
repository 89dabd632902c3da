"""What a release says of itself: the manifest beside each pushed version. No IO here."""

from __future__ import annotations

from dataclasses import field

from pydantic.dataclasses import dataclass

from tfx_encore.schemas.decisions import Decision

MANIFEST_FORMAT = 1


@dataclass(frozen=True)
class SpanDigest:
    """The data of a span that went into a release.

    Attributes:
        span: the span's number.
        digest: `sha256:` and the hexadecimal digest of the span's files, in order of name.
        source: where the data was read from, as the user wrote it.
        examples: number of examples by split, as {"train": 6000, "eval": 3000}.
    """

    span: int
    digest: str
    source: str
    examples: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Certificate:
    """What CacheWarmer measured: whether the model's answers may be cached row by row.

    Attributes:
        signature: the signature that was examined.
        row_independent: a row's answer did not change with the other rows of its batch.
        deterministic: computing a row again gave the same bytes.
        features_read: inputs that the graph consumes, sorted; None if it could not be told.
        transformed_only: the model reads nothing but transformed features.
        rows_checked: number of distinct rows behind these statements.
        message: one line for a person, with the first counter-example if there is one.
    """

    signature: str
    row_independent: bool
    deterministic: bool
    rows_checked: int
    message: str
    features_read: tuple[str, ...] | None = None
    transformed_only: bool = False

    @property
    def cacheable_rows(self) -> bool:
        """True if rows may be cached one by one."""
        return self.row_independent and self.deterministic


@dataclass(frozen=True)
class Manifest:
    """Evidence index of one pushed version, written once and never changed.

    Attributes:
        model: the model's name.
        version: its version, 1, 2, 3...
        fingerprint: digest of the SavedModel's content (see `metadata.fingerprint`).
        created_at: UTC, RFC 3339 with microseconds.
        created_by: user and host, as `ada@laptop`.
        baseline_version: the version that was live when this one was judged, if any.
        run_id: the pipeline run that pushed it.
        inputs_digest: digest of everything that went in (data, schema, module, configuration);
            an equal digest means that running again would push nothing new.
        spans: the data behind it.
        schema_digest: `sha256:` digest of the schema file.
        hyperparameters: as given to the trainer, values as text.
        decisions: what each gate decided.
        certificate: what may be cached, if CacheWarmer ran.
        evidence: file name in `<version>.evidence/` -> `sha256:` digest.
        lineage: name of an input -> id of its artifact in ML Metadata.
        versions_of: name of a tool (`tfx`, `tensorflow`, `tfx_encore`) -> its version.
    """

    model: str
    version: int
    fingerprint: str
    created_at: str
    created_by: str
    baseline_version: int | None = None
    run_id: str | None = None
    inputs_digest: str | None = None
    spans: tuple[SpanDigest, ...] = ()
    schema_digest: str | None = None
    hyperparameters: dict[str, str] = field(default_factory=dict)
    decisions: tuple[Decision, ...] = ()
    certificate: Certificate | None = None
    evidence: dict[str, str] = field(default_factory=dict)
    lineage: dict[str, int] = field(default_factory=dict)
    versions_of: dict[str, str] = field(default_factory=dict)
    format: int = MANIFEST_FORMAT


@dataclass(frozen=True)
class Provenance:
    """What the pipeline knows about a run before it starts; the pusher copies it into the manifest.

    Attributes: as in `Manifest`.
    """

    run_id: str | None = None
    created_by: str | None = None
    inputs_digest: str | None = None
    spans: tuple[SpanDigest, ...] = ()
    hyperparameters: dict[str, str] = field(default_factory=dict)
