"""The steps of CacheWarmer in their order: read the model, count, certify, answer, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from absl import logging
from tfx.dsl.io import fileio

from tfx_encore.cache.snapshot import SnapshotMeta
from tfx_encore.components.cache_warmer.answer_pipeline import answer
from tfx_encore.components.cache_warmer.certificate import certify
from tfx_encore.components.cache_warmer.count_pipeline import count
from tfx_encore.components.cache_warmer.coverage import make_coverage
from tfx_encore.components.cache_warmer.head_file import read_head
from tfx_encore.components.cache_warmer.plan import make_plan
from tfx_encore.components.cache_warmer.reading import SourceFile
from tfx_encore.components.cache_warmer.warmup_file import WARMUP_FILE, write_warmup_file
from tfx_encore.components.cache_warmer.window import decide_window
from tfx_encore.components.cache_warmer.writing import write_snapshot
from tfx_encore.schemas.charts import Coverage
from tfx_encore.schemas.release import Certificate
from tfx_encore.schemas.serial import to_json
from tfx_encore.schemas.warmup_policy import WarmupPolicy

CERTIFICATE_FILE = "certificate.json"
COVERAGE_FILE = "coverage.json"


@dataclass(frozen=True)
class Warmed:
    """What was written."""

    snapshot: SnapshotMeta
    certificate: Certificate
    coverage: Coverage


def warm(
    make_pipeline: Callable[[], Any],
    model: str,
    sources: Sequence[SourceFile],
    policy: WarmupPolicy,
    *,
    tmp: str,
    snapshot_dir: str,
    coverage_dir: str,
    generation: int = 0,
) -> Warmed:
    """Warms one candidate. The two output folders are written only once all is computed.

    Args:
        make_pipeline: gives a Beam pipeline to be run by `with`.
        model: path of the candidate's SavedModel.
        sources: what to count, in order.
        policy: what to choose and spend.
        tmp: an empty folder that all workers share.
        snapshot_dir: where the snapshot, the certificate and the warm-up file go.
        coverage_dir: where the coverage report goes.
        generation: sequence of the model's newest invalidation record, looked up before; 0 if
            nobody knows.

    Raises:
        ConfigError: a feature excluded that the model reads, or nothing to hold out.
        DataError: damaged data, or no usable row.
        ModelError: not a model, or one that answers too many rows with NaN or not at all.
    """
    plan = make_plan(model, policy)
    window = decide_window(make_pipeline, sources, plan.specs, policy, tmp)
    chunks, counts = count(make_pipeline, plan, window, policy, tmp)
    head = read_head(chunks)
    certificate = certify(plan, head, policy)
    # A model that cannot be cached is still asked for its answers: one that gives NaN must fail.
    answers = answer(make_pipeline, plan, chunks, len(head), policy)
    if not certificate.cacheable_rows:
        logging.warning("CacheWarmer writes an empty snapshot: %s", certificate.message)
        answers = []
    for directory in (snapshot_dir, coverage_dir):
        fileio.makedirs(directory)
    first = head[: policy.warmup_requests]
    write_warmup_file(
        f"{snapshot_dir}/{WARMUP_FILE}", first, plan.specs, policy.model_name, plan.output_filter
    )
    _write(f"{snapshot_dir}/{CERTIFICATE_FILE}", certificate)
    meta, keys, sizes = write_snapshot(
        snapshot_dir,
        answers,
        max_bytes=policy.max_bytes,
        fingerprint=plan.fingerprint,
        specs=plan.specs,
        output_filter=plan.output_filter,
        generation=generation,
    )
    coverage = make_coverage(counts, head, keys, sizes)
    _write(f"{coverage_dir}/{COVERAGE_FILE}", coverage)
    return Warmed(meta, certificate, coverage)


def _write(path: str, value: Certificate | Coverage) -> None:
    with fileio.open(path, "w") as file:
        file.write(to_json(value, indent=2) + "\n")
