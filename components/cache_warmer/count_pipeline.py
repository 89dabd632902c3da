"""The counting step: sources in; the head of the rows and the totals out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apache_beam as beam
from absl import logging

from tfx_encore.components.cache_warmer import counting, head_file, transformed
from tfx_encore.components.cache_warmer.coverage import Counts
from tfx_encore.components.cache_warmer.plan import Plan
from tfx_encore.components.cache_warmer.reading import Damage, check_damage
from tfx_encore.components.cache_warmer.window import Window
from tfx_encore.components.shared_files import buckets_for, read_json, sizes_of, write_json
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.warmup_policy import WarmupPolicy

BUCKET_BYTES = 24 << 20  # of sources for each bucket of rows
_MAX_BUCKETS = 1000
_FANOUT = 16  # workers that merge heads before the last one does


def count(
    make_pipeline: Callable[[], Any], plan: Plan, window: Window, policy: WarmupPolicy, tmp: str
) -> tuple[list[str], Counts]:
    """Counts the rows; returns the head of them as chunks (`head_file`), and the totals.

    Raises:
        DataError: a damaged file, or not one usable row.
    """
    buckets = buckets_for(
        sum(sizes_of([source.path for source in window.sources])), BUCKET_BYTES, _MAX_BUCKETS
    )
    rows = counting.CountRows(
        plan.specs,
        plan.output_filter,
        policy.timestamp_feature,
        window.held_after,
        buckets=buckets,
        folder=tmp,
    )
    best = counting.Head(policy.max_entries, policy.max_bytes)
    merge = counting.MergeBucket(
        plan.fingerprint,
        policy.signatures,
        plan.output_filter,
        best,
        folder=None if plan.transform is None else tmp,
    )
    with make_pipeline() as pipeline:
        found = (
            pipeline
            | "Sources" >> beam.Create(list(enumerate(window.sources)))
            | "Spread" >> beam.Reshuffle()
            | "Rows" >> beam.ParDo(rows).with_outputs(counting.TALLY, counting.FILES, main="rows")
        )
        merged = (
            found.rows
            | "Meet" >> beam.GroupByKey()
            | "Merge"
            >> beam.ParDo(merge).with_outputs(counting.TOTALS, counting.DISTINCT, main="head")
        )
        head = merged.head | "Head" >> beam.CombineGlobally(best).with_fanout(_FANOUT)
        _ = (
            head
            | "Save head" >> beam.Map(head_file.write_chunks, tmp, policy.batch_size)
            | "Save chunks" >> beam.Map(write_json, f"{tmp}/chunks.json")
        )
        save_sums(merged[counting.TOTALS], f"{tmp}/totals.json")
        save_sums(found[counting.TALLY], f"{tmp}/tally.json")
        save_list(found[counting.FILES], f"{tmp}/files.json")
        if plan.transform is not None:
            _transform(merged[counting.DISTINCT], head, plan, policy, tmp, buckets)
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


def save_list(values: Any, path: str) -> None:
    """Saves values that are few: one for each file, or for each row of the head."""
    name = path.rpartition("/")[2]
    _ = (
        values
        | f"List {name}" >> beam.combiners.ToList()
        | f"Save {name}" >> beam.Map(write_json, path)
    )


def _transform(  # noqa: PLR0917 - two collections and what is known of them
    distinct: Any, head: Any, plan: Plan, policy: WarmupPolicy, tmp: str, buckets: int
) -> None:
    assert plan.transform is not None
    keys = transformed.TransformKeys(
        path=plan.path,
        spec=plan.transform.spec,
        outputs=plan.readings[0].transformed_read,
        fingerprint=plan.fingerprint,
        signature=policy.signature,
        output_filter=plan.output_filter,
        batch_size=policy.batch_size,
        buckets=buckets,
        folder=tmp,
    )
    places = head | "Places" >> beam.Map(transformed.places_of)
    groups = (
        distinct
        | "Spread packs" >> beam.Reshuffle()
        | "Transform" >> beam.ParDo(keys, beam.pvalue.AsSingleton(places))
        | "Meet transformed" >> beam.GroupByKey()
        | "Merge transformed"
        >> beam.ParDo(transformed.MergeGroups()).with_outputs(transformed.DISTINCT, main="held")
    )
    save_sums(groups[transformed.DISTINCT], f"{tmp}/transformed-distinct.json")
    save_list(groups.held, f"{tmp}/transformed-held.json")


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
        distinct_transformed=read_json(f"{tmp}/transformed-distinct.json")["distinct"],
        transformed=sorted(read_json(f"{tmp}/transformed-held.json"), key=_places),
        transformed_only=plan.readings[0].transformed_only,
    )


def _places(group: Any) -> Any:
    return group[1]
