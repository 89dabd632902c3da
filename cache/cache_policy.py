"""What the cache may keep, for how long, and when it renews an answer early. No IO here."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tfx_encore.cache.breaker import BreakerPolicy

MIB = 2**20


class LifetimeRule(BaseModel):
    """How long the answers of some models and signatures live."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = Field(default=None, description="Name of the model; none for every model.")
    signature: str | None = Field(
        default=None, description="Name of the signature; none for every signature."
    )
    seconds: float = Field(
        ge=0.0, description="Lifetime of an answer; 0 keeps it until it is evicted or withdrawn."
    )


class CachePolicy(BaseModel):
    """The `cache` section of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lifetime_seconds: float = Field(
        default=86_400.0,
        ge=0.0,
        description="Lifetime of an answer where no rule says otherwise; 0 keeps it until it is "
        "evicted or withdrawn. A fingerprint's answers stay true, so this bounds what an "
        "undetected fault costs, not how wrong an answer may become.",
    )
    lifetimes: tuple[LifetimeRule, ...] = Field(
        default=(),
        description="Lifetimes by model and signature; of the rules that fit, the one that names "
        "the signature and the model wins, then the signature, then the model.",
    )
    lifetime_jitter: float = Field(
        default=0.1,
        ge=0.0,
        lt=1.0,
        description="A lifetime is shortened by up to this share at random, so that answers "
        "computed together do not expire together.",
    )
    rejection_seconds: float = Field(
        default=30.0,
        ge=0.0,
        le=3600.0,
        description="How long a rejection of the model is remembered; 0 remembers none.",
    )
    early_refresh: float = Field(
        default=1.0,
        ge=0.0,
        le=1000.0,
        description="Eagerness (beta of XFetch) to renew an answer before it expires; 0 never.",
    )
    early_refresh_floor_seconds: float = Field(
        default=0.05,
        ge=0.0,
        le=3600.0,
        description="What computing an answer anew is taken to cost at least, for early refresh: "
        "the measured cost does not hold the waiting for a batch and for the network.",
    )
    max_entry_bytes: int = Field(
        default=MIB, ge=64, description="Key, row and answer of one entry at most."
    )
    memory_bytes: int = Field(
        default=256 * MIB,
        ge=0,
        description="Memory tier, all overhead included; 0 for no such tier.",
    )
    memory_eviction: Literal["lru", "s3fifo"] = Field(
        default="s3fifo",
        description="`s3fifo` keeps its head under scans of rows seen once; `lru` follows sudden "
        "shifts sooner. `cache.trace_replay` measures both on your own trace.",
    )
    memory_packed: bool = Field(
        default=False,
        description="Keep entries as bytes instead of objects: less memory for each, slower hits.",
    )
    lmdb_bytes: int = Field(
        default=1024 * MIB, ge=0, description="File of the LMDB tier at most; 0 for no such tier."
    )
    snapshot_share: float = Field(
        default=0.5,
        gt=0.0,
        le=1.0,
        description="Share of a local tier that a new release's snapshot may fill; the rest stays "
        "with the release before, which a rollback would ask for.",
    )
    remote_timeout_seconds: float = Field(
        default=0.02,
        gt=0.0,
        le=10.0,
        description="Longest wait for a read of a remote tier that has no bound of its own. Redis "
        "has: `read_deadline_ms` of its section.",
    )
    remote_write_timeout_seconds: float = Field(
        default=1.0,
        gt=0.0,
        le=60.0,
        description="Longest write to a remote tier that has no bound of its own. Redis has: "
        "`write_deadline_ms` of its section.",
    )
    max_pending_writes: int = Field(
        default=64,
        ge=1,
        le=65_536,
        description="Batches on their way to the remote tier at most; beyond it they are dropped.",
    )
    max_refreshes: int = Field(
        default=8, ge=1, le=1024, description="Early refreshes under way at most."
    )
    max_ledger_age_seconds: float = Field(
        default=60.0,
        gt=0.0,
        description="How long answers are served after the ledger was last read to its end.",
    )
    breaker: BreakerPolicy = Field(
        default=BreakerPolicy(), description="When a failing tier is left alone, and for how long."
    )

    def lifetime(self, model: str, signature: str) -> float:
        """Returns the lifetime of an answer in seconds, before jitter; 0.0 for unlimited."""
        fitting = [
            rule
            for rule in self.lifetimes
            if rule.model in (None, model) and rule.signature in (None, signature)
        ]
        if not fitting:
            return self.lifetime_seconds
        return max(fitting, key=_rank).seconds

    def expires_at(self, model: str, signature: str, now: float, chance: float) -> float:
        """Returns when an answer computed now expires, seconds since 1970; 0.0 for never.

        Args:
            model: the model's name.
            signature: the signature's name.
            now: seconds since 1970.
            chance: uniform in [0, 1).
        """
        lifetime = self.lifetime(model, signature) if self.lifetimes else self.lifetime_seconds
        return now + lifetime * (1.0 - self.lifetime_jitter * chance) if lifetime else 0.0

    def rejection_expires_at(self, now: float, chance: float) -> float:
        """Returns when a rejection remembered now expires; `now` if none is remembered."""
        return now + self.rejection_seconds * (1.0 - self.lifetime_jitter * chance)

    def is_due(self, expires_at: float, cost_us: float, now: float, chance: float) -> bool:
        """True if an answer should be computed anew although it has not expired.

        XFetch: Vattani, Chierichetti, Lowenstein, Optimal Probabilistic Cache Stampede Prevention,
        VLDB 2015: renew if now - cost * beta * ln(chance) >= expiry.

        Args:
            expires_at: seconds since 1970; 0.0 for never.
            cost_us: what computing it cost, in microseconds.
            now: seconds since 1970.
            chance: uniform in [0, 1).
        """
        if not expires_at or not self.early_refresh:
            return False
        cost = max(cost_us * 1e-6, self.early_refresh_floor_seconds)
        # 1 - chance lies in (0, 1], whose logarithm exists.
        return now - cost * self.early_refresh * math.log(1.0 - chance) >= expires_at

    def refresh_window(self, cost_us: float) -> float:
        """Returns seconds before expiry outside which `is_due` is False but once in e^16 times."""
        return 16.0 * self.early_refresh * max(cost_us * 1e-6, self.early_refresh_floor_seconds)


def small_memory(**changes: object) -> CachePolicy:
    """Returns the policy for a host with little memory; `changes` as for `CachePolicy`."""
    small: dict[str, object] = {
        "memory_bytes": 8 * MIB,
        "memory_packed": True,
        "lmdb_bytes": 128 * MIB,
        "max_entry_bytes": 64 * 1024,
        "max_pending_writes": 8,
    }
    return CachePolicy.model_validate(small | changes)


def _rank(rule: LifetimeRule) -> tuple[bool, bool]:
    return rule.signature is not None, rule.model is not None
