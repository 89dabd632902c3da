"""Where the earlier rows, which are counted, end and the later ones, held out, begin."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam

from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.components.cache_warmer import times
from tfx_encore.components.cache_warmer.counting import TIMES, ScanSource
from tfx_encore.components.cache_warmer.reading import SourceFile
from tfx_encore.components.shared_files import read_json, write_json
from tfx_encore.schemas.errors import ConfigError, DataError
from tfx_encore.schemas.warmup_policy import WarmupPolicy


@dataclass(frozen=True)
class Window:
    """The held-out window.

    Attributes:
        sources: the files, each knowing which of its records are held out where order decides.
        held_after: rows of a later time are held out; None where time does not decide.
        text: as a person would say it.
    """

    sources: tuple[SourceFile, ...]
    held_after: float | None
    text: str


def decide_window(
    make_pipeline: Callable[[], Any],
    sources: Sequence[SourceFile],
    specs: Sequence[SignatureSpec],
    policy: WarmupPolicy,
    tmp: str,
) -> Window:
    """Finds the cut by time, else by the log's order, else by split.

    Raises:
        ConfigError: there is no split to hold out.
        DataError: no row has the timestamp feature.
    """
    share = f"latest {policy.held_out_fraction:.0%}"
    if policy.timestamp_feature:
        cut = _scan(make_pipeline, sources, specs, policy, tmp)["cut"]
        if cut is None:
            raise DataError(
                f"no row has the timestamp feature {policy.timestamp_feature!r}; check its name"
            )
        text = f"{share} by {policy.timestamp_feature} (after {cut:.15g})"
        return Window(tuple(sources), cut, text)
    if any(source.is_log for source in sources):
        found = _scan(make_pipeline, sources, specs, policy, tmp)
        held = _cut_by_order(sources, found["files"], policy.held_out_fraction)
        return Window(held, None, f"{share} of the request log, in file order")
    if len({source.held_out for source in sources}) < 2:
        raise ConfigError(
            f"splits {list(policy.splits)} with {policy.held_out_split!r} held out leave nothing "
            "to count or nothing to measure on; name both, or give a timestamp_feature",
            key="warmup.held_out_split",
        )
    return Window(tuple(sources), None, f"split {policy.held_out_split!r}")


def _scan(
    make_pipeline: Callable[[], Any],
    sources: Sequence[SourceFile],
    specs: Sequence[SignatureSpec],
    policy: WarmupPolicy,
    tmp: str,
) -> dict[str, Any]:
    """One pass for the number of records in each file, and the time of the cut."""
    scan = ScanSource(specs, policy.timestamp_feature)
    with make_pipeline() as pipeline:
        found = (
            pipeline
            | "Sources" >> beam.Create(list(enumerate(sources)))
            | "Spread" >> beam.Reshuffle()
            | "Scan" >> beam.ParDo(scan).with_outputs(TIMES, main="files")
        )
        _ = (
            found.files
            | "Files" >> beam.combiners.ToList()
            | "Save files" >> beam.Map(write_json, f"{tmp}/scan.json")
        )
        _ = (
            found[TIMES]
            | "Sample" >> beam.CombineGlobally(times.Sample())
            | "Cut" >> beam.Map(times.time_at, 1 - policy.held_out_fraction)
            | "Save cut" >> beam.Map(write_json, f"{tmp}/cut.json")
        )
    return {"files": read_json(f"{tmp}/scan.json"), "cut": read_json(f"{tmp}/cut.json")}


def _cut_by_order(
    sources: Sequence[SourceFile], files: Sequence[dict[str, Any]], held_out: float
) -> tuple[SourceFile, ...]:
    records = {file["path"]: int(file["records"]) for file in files}
    first_held = math.ceil(sum(records.values()) * (1 - held_out))
    cut = []
    before = 0
    for source in sources:
        cut.append(replace(source, held_from=max(first_held - before, 0)))
        before += records[source.path]
    return tuple(cut)
