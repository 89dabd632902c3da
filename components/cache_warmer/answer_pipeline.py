"""The answering step: the head in, files of snapshot blocks out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
from absl import logging

from tfx_encore.components.cache_warmer.inference import AnswerChunks, Told, check_answered
from tfx_encore.components.cache_warmer.plan import Plan
from tfx_encore.components.shared_files import read_json
from tfx_encore.schemas.warmup_policy import WarmupPolicy


def answer(
    make_pipeline: Callable[[], Any],
    plan: Plan,
    chunks: Sequence[str],
    rows: int,
    policy: WarmupPolicy,
) -> list[str]:
    """Computes the answers of the head; returns files of blocks in the order of the chunks.

    Args:
        make_pipeline: gives a Beam pipeline to be run by `with`.
        plan: the candidate.
        chunks: files of head rows.
        rows: how many they hold.
        policy: the batch size, and what share of the rows may be left out.

    Raises:
        ModelError: too many rows refused or answered with NaN.
    """
    work = AnswerChunks(plan.path, plan.specs, plan.output_filter, policy.batch_size)
    with make_pipeline() as pipeline:
        _ = (
            pipeline
            | "Chunks" >> beam.Create(list(chunks))
            | "Spread" >> beam.Reshuffle()
            | "Answer" >> beam.ParDo(work)
        )
    told = Told()
    for chunk in chunks:
        told = told.plus(Told(**read_json(f"{chunk}.json")))
    warning = check_answered(rows, told, policy.tolerate_unanswered_share)
    if warning:
        logging.warning("CacheWarmer: %s", warning)
    return [f"{chunk}.blocks" for chunk in chunks]
