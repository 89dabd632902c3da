"""The counting step: sources in; the head of the rows and the totals out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apache_beam as beam
from absl import logging

from tfx_encore.components.cache_warmer import counting, head_file, transformed
from tfx_encore.components.cache_warmer.coverage import Counts
from tfx_encore.components.cache_warmer.plan import Plan
from tfx_encore.components.cache_warmer.reading import (
    Damage,
    check_damage,
    read_json,
    write_json,
)
from tfx_encore.components.cache_warmer.window import Window
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.warmup_policy import WarmupPolicy


def count(
    make_pipeline: Callable[[], Any], plan: Plan, window: Window, policy: WarmupPolicy, tmp: str
) -> tuple[list[str], Counts]:
    """Counts the rows; returns the head of them as chunks (`head_file`), and the totals.

    Raises:
        DataError: a damaged file, or not one usable row.
    """
    rows = counting.CountRows(
        plan.specs, plan.output_filter, policy.timestamp_feature, window.held_after
    )
    with make_pipeline() as pipeline:
        found = (
            pipeline
            | "Sources" >> beam.Create(list(window.sources))
            | "Spread" >> beam.Reshuffle()
            | "Rows" >> beam.ParDo(rows).with_outputs(counting.TALLY, counting.FILES, main="rows")
        )
        distinct = found.rows | "Merge" >> beam.CombinePerKey(counting.merge_seen)
        head = _head(distinct, plan, policy)
        _ = (
            head
            | "Save head" >> beam.Map(head_file.write_chunks, tmp, policy.batch_size)
            | "Save chunks" >> beam.Map(write_json, f"{tmp}/chunks.json")
        )
        save_sums(distinct | "Of a row" >> beam.Map(counting.totals_of), f"{tmp}/totals.json")
        save_sums(found[counting.TALLY], f"{tmp}/tally.json")
        _ = (
            found[counting.FILES]
            | "Files" >> beam.combiners.ToList()
            | "Save files" >> beam.Map(write_json, f"{tmp}/files.json")
        )
        if plan.transform is not None:
            _transform(distinct, head, plan, policy, tmp)
    _check_files(read_json(f"{tmp}/files.json"), policy, window)
    return read_json(f"{tmp}/chunks.json"), _counts(plan, window, tmp)


def save_sums(dictionaries: Any, path: str) -> None:
    """Adds dictionaries of counts up and saves the sums."""
    name = path.rpartition("/")[2]
    _ = (
        dictionaries
        | f"Sum {name}" >> beam.CombineGlobally(counting.Sums())
        | f"Save {name}" >> beam.Map(write_json, path)
    )


def _head(distinct: Any, plan: Plan, policy: WarmupPolicy) -> Any:
    keys = counting.ToHeadRow(plan.fingerprint, policy.signatures, plan.output_filter)
    best = counting.Head(policy.max_entries, policy.max_bytes)
    return distinct | "Keys" >> beam.ParDo(keys) | "Head" >> beam.CombineGlobally(best)


def _transform(distinct: Any, head: Any, plan: Plan, policy: WarmupPolicy, tmp: str) -> None:
    assert plan.transform is not None
    keys = transformed.TransformKeys(
        path=plan.path,
        spec=plan.transform.spec,
        outputs=plan.readings[0].transformed_read,
        fingerprint=plan.fingerprint,
        signature=policy.signature,
        output_filter=plan.output_filter,
        batch_size=policy.batch_size,
    )
    places = head | "Places" >> beam.Map(transformed.places_of)
    groups = (
        distinct
        | "Of the first signature" >> beam.Filter(lambda item: item[0][0] == 0)
        | "Batches"
        >> beam.BatchElements(min_batch_size=policy.batch_size, max_batch_size=policy.batch_size)
        | "Transform" >> beam.ParDo(keys, beam.pvalue.AsSingleton(places))
        | "Merge transformed" >> beam.CombinePerKey(transformed.merge_groups)
    )
    transformed.save_groups(groups, f"{tmp}/transformed")


def _check_files(files: list[dict[str, Any]], policy: WarmupPolicy, window: Window) -> None:
    """Examples are never allowed to be damaged: TFX wrote them and can write them again."""
    order = {source.path: place for place, source in enumerate(window.sources)}
    files = sorted(files, key=lambda file: order[file["path"]])
    damages = [
        Damage(file["path"], file["offset"], file["lost"], file["error"])
        for file in files
        if file["lost"]
    ]
    is_log = any(source.is_log for source in window.sources)
    total = sum(file["offset"] + file["lost"] for file in files)
    warning = check_damage(damages, total, policy.tolerate_damaged_share if is_log else 0.0)
    if warning:
        logging.warning("CacheWarmer: %s", warning)


def _counts(plan: Plan, window: Window, tmp: str) -> Counts:
    totals, tally = read_json(f"{tmp}/totals.json"), read_json(f"{tmp}/tally.json")
    what = "request log" if any(source.is_log for source in window.sources) else "examples"
    if not totals.get("counted"):
        raise DataError(
            f"the {what} ({window.sources[0].path}, {len(window.sources)} file(s)) hold no usable "
            f"row before the held-out window; passed over: {tally or 'nothing'}"
        )
    if tally:
        logging.warning("CacheWarmer passed over records of the %s: %s", what, tally)
    counts = Counts(what, window.text, totals)
    if plan.transform is None:
        return counts
    return Counts(
        what,
        window.text,
        totals,
        distinct_transformed=read_json(f"{tmp}/transformed-distinct.json"),
        transformed=read_json(f"{tmp}/transformed-held.json"),
        transformed_only=plan.readings[0].transformed_only,
    )
