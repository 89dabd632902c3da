"""Slices nobody configured on which the model does badly. No IO here.

1. `cuts_from_statistics` says how features are cut, the same for all batches and nights;
2. `count` counts each batch's labelled rows; counts add up with `+`;
3. `find` gives the worst slices of the sum;
4. `with_recurrence` compares them with earlier nights and promotes those that come again.

A slice is found if its accuracy is lower than that of all other rows by at least `min_effect`
*and* beyond chance, false discoveries kept at `false_discovery_rate` over every slice tested in
the night (Benjamini-Hochberg). A pair of features is found only if it is so against what remains of
each of its two features' own slices as well. What another found slice explains is left out: a slice
whose rows outside that other slice do not lose `min_effect` any more, or a pair of mostly the same
rows as a pair that does more harm.

Source: after Chung et al. (2019), Slice Finder: automated data slicing for model validation
(arXiv 1807.06068), which tests effect size and significance level by level.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from tfx_encore.monitoring.slice_discovery_cells import Counts, Slice, bad_slices
from tfx_encore.monitoring.slice_discovery_counts import PairCounts, count, count_cells
from tfx_encore.monitoring.slice_discovery_cuts import (
    Cuts,
    FeatureCut,
    cuts_from_statistics,
    range_of,
)
from tfx_encore.monitoring.slice_discovery_pvalues import accuracy, difference_interval, p_worse
from tfx_encore.schemas.nightly_policy import DiscoveryPolicy
from tfx_encore.schemas.nights import SliceFinding

__all__ = [
    "Cuts",
    "FeatureCut",
    "PairCounts",
    "count",
    "count_cells",
    "cuts_from_statistics",
    "find",
    "measure",
    "same_slice",
    "with_recurrence",
]

_SAME = 0.5  # share of rows from which on two cells are taken for the same thing


def find(
    counts: PairCounts,
    policy: DiscoveryPolicy,
    configured: Collection[Collection[str]] = (),
) -> tuple[SliceFinding, ...]:
    """Finds the worst slices of a night.

    Args:
        counts: of the night's labelled rows.
        policy: support, effect, false discovery rate, how many are proposed.
        configured: sets of features by which slices are cut already (`EvaluationPolicy.slices`).
            Slices by exactly these features, and those they explain, are not proposed.

    Returns:
        At most `policy.propose`, by harm: most wrong answers beyond what the rest's accuracy would
        give first; then by features.
    """
    if not policy.enabled:
        return ()
    known = {frozenset(names) for names in configured}
    by_harm = sorted(_unexplained(counts, policy), key=lambda item: _harm(counts, item))
    different = _different(counts, by_harm)
    new = [item for item in different if frozenset(item.table) not in known]
    return tuple(_finding(counts, item) for item in new[: policy.propose])


def _harm(counts: PairCounts, item: Slice) -> tuple[float, tuple[str, ...], object]:
    """Sorts by wrong answers beyond what the rest's accuracy would give, most first."""
    within = item.within(counts)
    loss = accuracy(counts.table() - within) - accuracy(within)
    return -float(within[0] * loss), item.table, item.spans


def _different(counts: PairCounts, slices: Iterable[Slice]) -> list[Slice]:
    """Leaves out pairs that are mostly the same rows as a pair before them.

    Of two pairs that share the cell of a feature only; whether their other cells hold the same rows
    is seen from the counts of those two features (within the shared cell it is not known).
    """
    kept: list[Slice] = []
    for item in slices:
        if not any(_mostly_same(counts, item, other) for other in kept):
            kept.append(item)
    return kept


def _mostly_same(counts: PairCounts, item: Slice, other: Slice) -> bool:
    common = set(item.table) & set(other.table)
    if len(item.table) + len(other.table) < 4 or len(common) != 1:
        return False
    (name,) = common
    (first, last), (other_first, other_last) = item.cells_of(name), other.cells_of(name)
    if last < other_first or other_last < first:
        return False
    (mine,), (theirs,) = set(item.table) - common, set(other.table) - common
    alone = Slice((mine,), (item.cells_of(mine),), 1.0).within(counts)[0]
    spans = {mine: item.cells_of(mine), theirs: other.cells_of(theirs)}
    table = tuple(sorted(spans))
    shared = Slice(table, tuple(spans[name] for name in table), 1.0).within(counts)[0]
    return bool(shared > _SAME * alone)


def _unexplained(counts: PairCounts, policy: DiscoveryPolicy) -> list[Slice]:
    """Bad slices that no other bad slice explains, pairs before single features."""
    bad = bad_slices(counts, policy)
    pairs = [item for item in bad if len(item.table) == 2]
    kept = list(pairs)
    for item in sorted(
        (item for item in bad if len(item.table) == 1),
        key=lambda s: (float(accuracy(s.within(counts))), s.table, s.spans),
    ):
        if not any(
            _explained(counts, item, shared, policy) for shared in _overlaps(counts, item, kept)
        ):
            kept.append(item)
    return kept


def _overlaps(counts: PairCounts, item: Slice, others: Iterable[Slice]) -> Iterable[Counts]:
    """Rows of a single feature's slice that other bad slices hold, by the other's feature."""
    name, span = item.table[0], item.spans[0]
    by_feature: dict[str, Counts] = {}
    for other in others:
        if name in other.table and len(other.table) == 2:
            axis = other.table.index(name)
            first, last = other.spans[axis]
            if span[0] <= first and last <= span[1]:
                feature = other.table[1 - axis]
                found = other.within(counts)
                by_feature[feature] = by_feature.get(feature, 0 * found) + found
        elif len(other.table) == 1 and other.table != item.table:
            table = tuple(sorted((name, other.table[0])))
            spans = (span, other.spans[0]) if table[0] == name else (other.spans[0], span)
            yield Slice(table, spans, 1.0).within(counts)
    yield from by_feature.values()


def _explained(counts: PairCounts, item: Slice, shared: Counts, policy: DiscoveryPolicy) -> bool:
    """Whether the slice is no longer bad without the rows that it shares."""
    within = item.within(counts)
    remains, outside = within - shared, counts.table() - within
    if remains[0] <= 0:
        return True
    return bool(accuracy(outside) - accuracy(remains) < policy.min_effect)


def _finding(counts: PairCounts, item: Slice) -> SliceFinding:
    within = item.within(counts)
    rest = counts.table() - within
    low, high = difference_interval(within, rest).tolist()
    names = zip(item.table, item.spans, strict=True)
    return SliceFinding(
        features={name: counts.cuts[name].text(*span) for name, span in names},
        rows=int(within[0]),
        value=float(accuracy(within)),
        rest=float(accuracy(rest)),
        interval=(low, high),
        p_value=item.p_value,
    )


def measure(counts: PairCounts, features: dict[str, str]) -> SliceFinding | None:
    """What became of a slice found earlier; its p-value is its own, not adjusted.

    None if the night has no row of it, or features are cut differently now.
    """
    table = tuple(sorted(features))
    if not set(table) <= set(counts.cuts) or len(table) not in {1, 2}:
        return None
    spans = [_span(counts.cuts[name], features[name]) for name in table]
    if any(span is None for span in spans):
        return None
    item = Slice(table, tuple(span for span in spans if span), 1.0)
    within = item.within(counts)
    rest = counts.table() - within
    if not within[0] or not rest[0]:
        return None
    return _finding(counts, replace(item, p_value=float(p_worse(within, rest))))


def _span(cut: FeatureCut, text: str) -> tuple[int, int] | None:
    for cell in range(cut.cells):
        if cut.text(cell) == text:
            return cell, cell
    firsts = range(1, cut.cells) if cut.numeric else ()
    spans = ((a, b) for a in firsts for b in range(a + 1, cut.cells))
    return next((span for span in spans if cut.text(*span) == text), None)


def with_recurrence(
    findings: Sequence[SliceFinding],
    earlier: Sequence[Sequence[SliceFinding]],
    policy: DiscoveryPolicy,
    counts: PairCounts | None = None,
) -> tuple[SliceFinding, ...]:
    """Counts on how many nights each slice was found, and promotes those that recur.

    A slice is the same if its features are, its categories are equal and its ranges overlap. Once
    promoted it stays so.

    Args:
        findings: tonight's, as `find` gave them.
        earlier: what the nights before had in their records, ascending by date, without gaps that
            matter: a night that found nothing counts as a night.
        policy: `promote_after` of the last `promote_within` nights, tonight included.
        counts: tonight's counts: promoted slices that were not found tonight are then measured and
            put at the end, with `nights` 0.
    """
    window = earlier[max(0, len(earlier) - policy.promote_within + 1) :]
    if policy.promote_within == 1:
        window = ()
    found = [_recurring(item, window, earlier, policy) for item in findings]
    if counts is not None:
        found += _followed(found, earlier, counts)
    return tuple(found)


def _recurring(
    item: SliceFinding,
    window: Sequence[Sequence[SliceFinding]],
    earlier: Sequence[Sequence[SliceFinding]],
    policy: DiscoveryPolicy,
) -> SliceFinding:
    nights = 1 + _nights_with(item, window)
    before = any(old.promoted and same_slice(old, item) for night in earlier for old in night)
    return replace(item, nights=nights, promoted=before or nights >= policy.promote_after)


def _nights_with(item: SliceFinding, nights: Iterable[Sequence[SliceFinding]]) -> int:
    """Nights that found it; those that only followed it do not count."""
    return sum(any(same_slice(old, item) and old.nights > 0 for old in night) for night in nights)


def _followed(
    found: Sequence[SliceFinding],
    earlier: Sequence[Sequence[SliceFinding]],
    counts: PairCounts,
) -> list[SliceFinding]:
    followed: list[SliceFinding] = []
    for night in reversed(earlier):
        for old in night:
            if not old.promoted or any(same_slice(old, item) for item in (*found, *followed)):
                continue
            item = measure(counts, old.features)
            if item is not None:
                followed.append(replace(item, nights=0, promoted=True))
    return followed


def same_slice(first: SliceFinding, second: SliceFinding) -> bool:
    """Whether two findings are of one slice: equal categories, overlapping ranges."""
    return first.features.keys() == second.features.keys() and all(
        _same_value(value, second.features[name]) for name, value in first.features.items()
    )


def _same_value(first: str, second: str) -> bool:
    if first == second:
        return True
    one, other = range_of(first), range_of(second)
    if one is None or other is None:
        return False
    return one[0] < other[1] and other[0] < one[1]
