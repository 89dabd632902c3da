"""What `encore cache` and a gateway say to each other, and how workers' replies add up. No IO here.

A request is one line of JSON, a `Request`; so is the reply: `{"ok": true, "replies": [...]}` with
what each worker replied, or `{"ok": false, "error": "..."}`. `GatewayServer.admin` receives a
request as a dictionary and returns a worker's reply as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

_FROZEN = ConfigDict(frozen=True, extra="forbid")
_MODEL = Field(default=None, description="Only this model.")


class StatsRequest(BaseModel):
    """Asks what is served and how the caches do."""

    model_config = _FROZEN

    command: Literal["stats"] = "stats"


class WarmRequest(BaseModel):
    """Loads a snapshot again: a directory, or that of each served release."""

    model_config = _FROZEN

    command: Literal["warm"] = "warm"
    model: str | None = _MODEL
    snapshot: str | None = Field(default=None, description="Directory of a snapshot.")


class VerifyRequest(BaseModel):
    """Recomputes a sample of cached answers and compares."""

    model_config = _FROZEN

    command: Literal["verify"] = "verify"
    model: str | None = _MODEL
    rows: int = Field(default=100, ge=1, le=100_000, description="Entries of each model.")


class ReloadRequest(BaseModel):
    """Looks for new versions, labels and invalidation records now."""

    model_config = _FROZEN

    command: Literal["reload"] = "reload"


class MetricsRequest(BaseModel):
    """Asks for a worker's numbers: `GatewayMetrics.state` as text under `state`."""

    model_config = _FROZEN

    command: Literal["metrics"] = "metrics"


class DrainRequest(BaseModel):
    """Ends the worker as SIGTERM does."""

    model_config = _FROZEN

    command: Literal["drain"] = "drain"


Request = Annotated[
    Union[StatsRequest, WarmRequest, VerifyRequest, ReloadRequest, MetricsRequest, DrainRequest],
    Field(discriminator="command"),
]
REQUEST: TypeAdapter[Any] = TypeAdapter(Request)


class TierStats(BaseModel):
    """One tier of a model's cache.

    `is_shared` says that the workers have it in common, so that it is counted once.
    """

    model_config = _FROZEN

    tier: str
    is_shared: bool = False
    entries: int | None = None
    bytes: int | None = None
    breaker: str = "closed"


class VersionStats(BaseModel):
    """One version that answers."""

    model_config = _FROZEN

    version: int
    fingerprint: str
    labels: tuple[str, ...] = ()
    is_default: bool = False
    warmed: int = Field(default=0, description="Answers that a snapshot brought.")
    entries: int | None = Field(default=None, description="In memory, if that is known.")
    caching: dict[str, str] = Field(
        default_factory=dict, description="Signature -> `rows: why`, `requests: why`, `off: why`."
    )


class ModelStats(BaseModel):
    """One model."""

    model_config = _FROZEN

    model: str
    versions: tuple[VersionStats, ...] = ()
    tiers: tuple[TierStats, ...] = ()
    hits: dict[str, int] = Field(
        default_factory=dict, description="Rows answered, by `raw`, `transformed`, `negative`."
    )
    misses: int = 0
    generation: int | None = Field(
        default=None, description="Records applied; None: not known yet, or there is no ledger."
    )
    ledger_age_seconds: float | None = None
    ledger_problem: str = ""
    problem: str = Field(default="", description="Why a version that is wanted does not answer.")


class WorkerStats(BaseModel):
    """The reply to `stats` of one worker."""

    model_config = _FROZEN

    worker: int
    pid: int
    is_ready: bool
    consumer: str = Field(default="", description="Who acknowledges this worker's records.")
    rest_port: int | None = None
    grpc_port: int | None = None
    models: tuple[ModelStats, ...] = ()


class WarmReply(BaseModel):
    """The reply to `warm` of one worker: model -> answers that are in its caches now."""

    model_config = _FROZEN

    worker: int
    loaded: dict[str, int] = Field(default_factory=dict)
    problems: tuple[str, ...] = ()


class Difference(BaseModel):
    """A cached answer that is not what the model says now."""

    model_config = _FROZEN

    model: str
    fingerprint: str
    signature: str
    key: str = Field(description="The row's key, in hexadecimal.")
    cached: str
    computed: str


class VerifyReply(BaseModel):
    """The reply to `verify` of one worker."""

    model_config = _FROZEN

    worker: int
    checked: dict[str, int] = Field(default_factory=dict, description="Model -> entries compared.")
    different: int = 0
    differences: tuple[Difference, ...] = Field(default=(), description="At most 100 of them.")
    problems: tuple[str, ...] = ()


def merge_models(workers: Sequence[WorkerStats]) -> tuple[ModelStats, ...]:
    """Adds up what the workers say of each model.

    Counts are summed; of what is shared, and of generations and ages, the worst is taken: the
    lowest generation, the oldest ledger, the breaker that is least closed.
    """
    by_name: dict[str, list[ModelStats]] = {}
    for worker in workers:
        for model in worker.models:
            by_name.setdefault(model.model, []).append(model)
    return tuple(_merge(name, by_name[name]) for name in sorted(by_name))


def _merge(name: str, parts: Sequence[ModelStats]) -> ModelStats:
    generations = [part.generation for part in parts]
    return ModelStats(
        model=name,
        versions=_merge_versions(parts),
        tiers=_merge_tiers(parts),
        hits=_sum(part.hits for part in parts),
        misses=sum(part.misses for part in parts),
        generation=None if None in generations else min(g for g in generations if g is not None),
        ledger_age_seconds=max((p.ledger_age_seconds or 0.0 for p in parts), default=0.0)
        if all(part.ledger_age_seconds is not None for part in parts)
        else None,
        ledger_problem=_first(part.ledger_problem for part in parts),
        problem=_first(part.problem for part in parts),
    )


def _merge_versions(parts: Sequence[ModelStats]) -> tuple[VersionStats, ...]:
    found: dict[int, VersionStats] = {}
    for version in (version for part in parts for version in part.versions):
        known = found.get(version.version)
        if known is None:
            found[version.version] = version
            continue
        found[version.version] = known.model_copy(
            update={
                "warmed": max(known.warmed, version.warmed),
                "entries": _add(known.entries, version.entries),
            }
        )
    return tuple(found[number] for number in sorted(found))


_OPENNESS = ("closed", "half-open", "open")


def _merge_tiers(parts: Sequence[ModelStats]) -> tuple[TierStats, ...]:
    found: dict[str, TierStats] = {}
    for tier in (tier for part in parts for tier in part.tiers):
        known = found.get(tier.tier)
        if known is None:
            found[tier.tier] = tier
            continue
        combine = _most if tier.is_shared else _add
        found[tier.tier] = known.model_copy(
            update={
                "entries": combine(known.entries, tier.entries),
                "bytes": combine(known.bytes, tier.bytes),
                "breaker": max(known.breaker, tier.breaker, key=_openness),
            }
        )
    return tuple(found.values())


def _openness(state: str) -> int:
    return _OPENNESS.index(state) if state in _OPENNESS else len(_OPENNESS)


def _add(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _most(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else max(one, other)


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            total[name] = total.get(name, 0) + count
    return total


def _first(texts: Iterable[str]) -> str:
    return next(filter(None, texts), "")
