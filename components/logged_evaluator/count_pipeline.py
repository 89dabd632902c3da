"""The counting step: examples in; `slices.json` and `pairs.json` out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, TaggedOutput
from tfx.dsl.io import fileio

from tfx_encore.components.logged_evaluator.decoding import decode, read_batches
from tfx_encore.components.logged_evaluator.distinct import (
    Distinct,
    add_pairs,
    distinct_rows,
    merged,
    pairs_of,
    squares_of,
)
from tfx_encore.components.logged_evaluator.recompute import Again, repeat
from tfx_encore.components.logged_evaluator.sample import Sample, Sampling, merge_samples, share_out
from tfx_encore.components.logged_evaluator.slicing import Slicer, cells_of
from tfx_encore.components.logged_evaluator.tally import (
    Counting,
    Repeated,
    Squares,
    Tally,
    add_squares,
    add_tallies,
    night_slices,
)
from tfx_encore.components.packing import Packed, unpack, write_packs
from tfx_encore.components.shared_files import buckets_for, sizes_of, whole_file
from tfx_encore.monitoring.slice_discovery import Cuts, PairCounts
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.serial import to_json

SLICES_FILE, PAIRS_FILE = "slices.json", "pairs.json"
_SAMPLE, _DISTINCT = "sample", "distinct"
BUCKET_BYTES = 8 << 20  # of Examples, unpacked, for each bucket of distinct rows
_MAX_BUCKETS = 1000
_FLUSH_AT = 100_000  # distinct rows that a worker holds before they go on


@dataclass(frozen=True)
class Plan:
    """What is counted.

    Attributes:
        policy: slices, threshold, signature.
        extra_slices: single slices besides.
        cuts: how slice discovery cuts features; empty counts no pairs.
        fingerprints: version -> fingerprint, for logs that only say the version.
        fingerprint: the model whose rows are answered again and searched for bad slices; None if
            it is not known: then none are answered again, and all are searched.
        model: its SavedModel; None answers nothing again.
        recompute_rows: rows that it answers again.
    """

    policy: EvaluationPolicy
    extra_slices: tuple[dict[str, str], ...]
    cuts: Cuts
    fingerprints: Mapping[int, str]
    fingerprint: str | None
    model: str | None
    recompute_rows: int

    def slicer(self) -> Slicer:
        """Cuts as the plan says; slices are numbered anew."""
        return Slicer(self.policy.all_slices, self.extra_slices, self.cuts)

    @property
    def sampled(self) -> int:
        """Rows to be drawn of each path."""
        return self.recompute_rows if self.model and self.fingerprint else 0


def count(
    make_pipeline: Callable[[], Any], plan: Plan, files: Sequence[str], folder: str, tmp: str
) -> None:
    """Counts the rows of the files and writes `slices.json` and `pairs.json`.

    Args:
        make_pipeline: makes the Beam pipeline; used as a context.
        plan: what is counted.
        files: of Examples.
        folder: where the two files go.
        tmp: folder that every worker reaches; the caller removes it.

    Raises:
        DataError: a file cannot be read.
        ModelError: the model cannot answer the sample.
    """
    buckets = buckets_for(sum(sizes_of(files)), BUCKET_BYTES, _MAX_BUCKETS)
    work = CountFile(plan, buckets, tmp)
    with make_pipeline() as pipeline:
        counted = (
            pipeline
            | "Files" >> beam.Create(list(enumerate(files)))
            | "Spread" >> beam.Reshuffle()
            | "Count" >> beam.ParDo(work).with_outputs(_SAMPLE, _DISTINCT, main="tally")
        )
        tally = counted.tally | "Sum" >> beam.CombineGlobally(add_tallies)
        smallest = functools.partial(merge_samples, size=plan.sampled)
        repeated = (
            counted[_SAMPLE]
            | "Draw" >> beam.CombineGlobally(smallest)
            | "Answer again" >> beam.Map(_repeat, plan)
        )
        day = (
            counted[_DISTINCT]
            | "Together" >> beam.GroupByKey()
            | "Merge" >> beam.Map(_of_bucket, plan)
        )
        squares = (
            day
            | "Their squares" >> beam.Map(_first)
            | "Sum squares" >> beam.CombineGlobally(add_squares)
        )
        sum_pairs = functools.partial(add_pairs, cuts=plan.cuts)
        pairs = (
            day
            | "Their pairs" >> beam.Map(_second)
            | "Sum pairs" >> beam.CombineGlobally(sum_pairs)
        )
        _ = (
            pipeline
            | "Once" >> beam.Create([(folder, tmp)])
            | "Write"
            >> beam.Map(
                _write,
                plan,
                AsSingleton(tally),
                AsSingleton(squares),
                AsSingleton(repeated),
                AsSingleton(pairs),
            )
        )


class CountFile(beam.DoFn):
    """(number, file of examples) -> its Tally, the rows drawn, its distinct rows packed by bucket.

    Args:
        plan: what is counted.
        buckets: of distinct rows.
        folder: for the packs.
    """

    def __init__(self, plan: Plan, buckets: int, folder: str) -> None:
        self._plan = plan
        self._buckets = buckets
        self._folder = folder

    def process(self, numbered: tuple[int, str]) -> Iterator[Any]:
        """Counts one file, a batch at a time."""
        number, file = numbered
        written = 0
        plan, slicer = self._plan, self._plan.slicer()
        threshold = plan.policy.decision_threshold
        counting = Counting(threshold)
        sampling = Sampling(plan.sampled, plan.fingerprint or "")
        held: list[Distinct] = []
        for records in read_batches(file):
            rows = decode(records, plan.fingerprints)
            members = slicer.members(rows.batch)
            counting.add(rows, members)
            sampling.add(rows, records)
            cells = cells_of(rows.batch, plan.cuts)
            held.append(distinct_rows(rows, members, slicer.keys, cells, threshold))
            if sum(map(len, held)) >= _FLUSH_AT:
                yield from self._sent(held, f"{number:06d}-{written:06d}")
                held, written = [], written + 1
        if held:
            yield from self._sent(held, f"{number:06d}-{written:06d}")
        yield TaggedOutput(_SAMPLE, sampling.sample)
        yield counting.tally(slicer.keys)

    def _sent(self, held: list[Distinct], name: str) -> Iterator[Any]:
        parts = {bucket: rows.columns() for bucket, rows in merged(held).split(self._buckets)}
        for numbered in write_packs(_DISTINCT, f"{self._folder}/{_DISTINCT}-{name}.pack", parts):
            yield TaggedOutput(_DISTINCT, numbered)


def _repeat(sample: Sample, plan: Plan) -> Repeated:
    if plan.model is None:
        return Repeated()
    again = Again(plan.model, plan.policy, plan.fingerprints)
    return repeat(share_out(sample, plan.recompute_rows), again, plan.slicer())


def _of_bucket(bucket: tuple[int, Iterable[Packed]], plan: Plan) -> tuple[Squares, PairCounts]:
    rows = merged([Distinct.of_columns(unpack(packed)) for packed in bucket[1]])
    return squares_of(rows), pairs_of(rows, plan.cuts, plan.fingerprint)


def _first(pair: tuple[Squares, PairCounts]) -> Squares:
    return pair[0]


def _second(pair: tuple[Squares, PairCounts]) -> PairCounts:
    return pair[1]


def _write(  # noqa: PLR0917 - Beam gives side inputs by position
    folders: tuple[str, str],
    plan: Plan,
    tally: Tally,
    squares: Squares,
    repeated: Repeated,
    pairs: PairCounts,
) -> None:
    folder, tmp = folders
    slices = night_slices(plan.policy.decision_threshold, tally, squares, repeated)
    fileio.makedirs(folder)
    for name, text in ((SLICES_FILE, to_json(slices)), (PAIRS_FILE, to_json(pairs))):
        with whole_file(f"{folder}/{name}", tmp) as file:
            file.write(text.encode())
