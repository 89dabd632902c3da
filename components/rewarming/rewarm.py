"""Makes a new snapshot for a released model from a night's traffic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfx_encore.components.cache_warmer.inference import load_model
from tfx_encore.components.cache_warmer.reading import SourceFile
from tfx_encore.components.cache_warmer.warm import Warmed, warm
from tfx_encore.metadata.night_snapshots import NightSnapshots
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.schemas.errors import DataError, ModelError
from tfx_encore.schemas.warmup_policy import WarmupPolicy


@dataclass(frozen=True)
class Rewarmed:
    """A snapshot that was made.

    Attributes:
        path: where gateways find it.
        entries: answers in it.
        hit_rate: share of the day's later rows that it answers, in [0, 1].
    """

    path: Path
    entries: int
    hit_rate: float


def rewarm(
    make_pipeline: Callable[[], Any],
    releases: ReleaseDirectory,
    version: int,
    date: str,
    log_files: Sequence[str],
    *,
    policy: WarmupPolicy,
    tolerate_damaged_share: float = 0.0,
) -> Rewarmed:
    """Warms a version anew, and makes the snapshot the newest of its fingerprint.

    What the release was decided on stays as it is. A crash leaves the old snapshot or the new one.

    Args:
        make_pipeline: gives a Beam pipeline to be run by `with`.
        releases: where the version is.
        version: the version.
        date: the night whose traffic this is.
        log_files: its PredictionLog TFRecords, in order of time.
        policy: as of CacheWarmer.
        tolerate_damaged_share: share of the log's bytes that may be unreadable, if the policy
            allows less.

    Raises:
        VersionNotFoundError: the version is not on disk.
        DataError: no usable row in the log, or too much of it is damaged.
        ModelError: the model's answers are not to be cached, or it gives none.
    """
    if not log_files:
        raise DataError(f"night {date} has no request log left to warm from")
    tolerated = max(policy.tolerate_damaged_share, tolerate_damaged_share)
    # A log is in order of time, and need not carry the feature that orders examples.
    policy = policy.model_copy(
        update={"tolerate_damaged_share": tolerated, "timestamp_feature": None}
    )
    # Before anything is computed: a record that comes meanwhile withdraws the answers.
    generation = releases.state().sequence
    model, fingerprint = releases.version_path(version), releases.manifest(version).fingerprint
    store = NightSnapshots(releases.path.parent, releases.model, fingerprint)
    # Workers read the model and write beside it: one file system, which all of them reach.
    with store.staging() as staged, store.staging() as tmp:
        try:
            warmed = warm(
                make_pipeline,
                str(model),
                [SourceFile(path, is_log=True) for path in log_files],
                policy,
                tmp=str(tmp),
                snapshot_dir=str(staged),
                coverage_dir=str(staged),
                generation=generation,
            )
        finally:
            load_model.cache_clear()
        _check(warmed, fingerprint, version)
        path = store.commit(date, staged)
    return Rewarmed(path, warmed.snapshot.entries, warmed.coverage.hit_rate)


def _check(warmed: Warmed, fingerprint: str, version: int) -> None:
    if warmed.snapshot.fingerprint != fingerprint:
        raise ModelError(
            f"version {version} has changed since it was pushed: its content is "
            f"{warmed.snapshot.fingerprint}, its manifest says {fingerprint}"
        )
    if not warmed.snapshot.entries:
        raise ModelError(
            f"version {version} is not warmed anew: {warmed.certificate.message}; the snapshot "
            "would be empty"
        )
