"""Answers from the cache beside answers of the model, slice by slice. No IO here.

Two questions. *Are cached answers right?* A sample of the day's rows is answered again by the model
that served them; an answer of the cache that differs by more than rounding is an incident, however
rare. *Does the model do as well on what the cache answers?* Cached rows are the popular ones, so a
difference of metrics is no error; it is shown, and never decides.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from tfx_encore.monitoring import intervals
from tfx_encore.monitoring.night_slices import NightSlices, ServedSlice
from tfx_encore.monitoring.served_metrics import (
    labelled_repeats,
    served_difference,
    served_estimate,
)
from tfx_encore.monitoring.slice_counts import SliceKey
from tfx_encore.monitoring.slice_verdicts import too_few
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome, overall, worst_first
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy, Metric
from tfx_encore.schemas.nights import HIT, MISS, PATHS, UNKNOWN

GATE = "cached_path"
MEASURES = {
    HIT: "cached_answers_wrong",
    MISS: "computed_answers_differ",
    UNKNOWN: "answers_differ",
}
_WHAT = {HIT: "from the cache", MISS: "computed for the request", UNKNOWN: "of unknown origin"}
ROUNDING_ULPS = 64.0  # as WarmupPolicy.rounding_ulps, by which cached answers were certified
_MANY_SLICES = 10


def differing(
    served: npt.ArrayLike, again: npt.ArrayLike
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Which served answers are not those that the model gave when asked again.

    Answers computed in another batch may round differently (docs/adr/0003): up to `ROUNDING_ULPS`
    units in the last place, in single precision, of the largest magnitude among them.

    Args:
        served: [N] probabilities.
        again: [N] the model's own.

    Returns:
        [N] whether they differ by more, and [N] the absolute difference, 1 between a number and
        none.
    """
    one, other = np.asarray(served, np.float64), np.asarray(again, np.float64)
    known, other_known = np.isfinite(one), np.isfinite(other)
    both = known & other_known
    apart = np.where(both, np.abs(np.where(both, one - other, 0.0)), (known != other_known) * 1.0)
    largest = max((float(np.abs(a[both]).max()) for a in (one, other) if both.any()), default=0.0)
    return apart > ROUNDING_ULPS * float(np.finfo(np.float32).eps) * largest, apart


def judge_paths(night: NightSlices, fingerprint: str, policy: EvaluationPolicy) -> Decision:
    """Judges the answers of the cache against those of the model, for one model's rows.

    BLOCK if an answer from the cache differs from the model's own by more than rounding, WARN if
    only others do: then the model itself does not repeat its answers. The evidence names everything
    and the smallest slices that hold what differs, see `wrong_slices`.
    """
    slices = night.of(fingerprint)
    if () not in slices:
        reason = "this model answered no row of the night"
        return Decision(GATE, Outcome.INSUFFICIENT_DATA, reason)
    repeated = [item for path in PATHS for item in _repeated(night, fingerprint, slices, path)]
    outcome = overall(repeated)
    ordered = worst_first((*repeated, *_beside(slices, night.threshold, policy)))
    return Decision(GATE, outcome, _reason(repeated, outcome), evidence=ordered)


def wrong_slices(night: NightSlices, fingerprint: str, path: str = HIT) -> tuple[ServedSlice, ...]:
    """The slices whose answers are to be withdrawn: none, everything, or some slices of one cut.

    Each cut of which all differing rows have a value is an explanation: "rows of these slices
    differ at one rate, others never". The shortest description wins, that is the largest likelihood
    after paying for the choice of the slices among those of the cut.

    Source: minimum description length, Rissanen (1978).
    """
    slices = night.of(fingerprint)
    everything = slices.get(())
    total = everything.paths[path].disagreeing if everything and path in everything.paths else 0
    if not everything or not total:
        return ()
    cuts: dict[tuple[str, ...], list[ServedSlice]] = defaultdict(list)
    for item in slices.values():
        if _sampled(item, path):
            cuts[tuple(sorted(item.features))].append(item)
    best: tuple[float, tuple[ServedSlice, ...]] = (math.inf, (everything,))
    for _, members in sorted(cuts.items(), key=lambda cut: (len(cut[0]), cut[0])):
        wrong = [item for item in members if item.paths[path].disagreeing]
        if sum(item.paths[path].disagreeing for item in wrong) == total:
            length = _length(total, sum(_sampled(item, path) for item in wrong), wrong, members)
            best = min(best, (length, tuple(wrong)), key=lambda found: found[0])
    return tuple(sorted(best[1], key=lambda item: item.key))


def _length(
    wrong_rows: int, rows: int, wrong: list[ServedSlice], members: list[ServedSlice]
) -> float:
    """Nats to say which slices of the cut are wrong, and which of their rows."""
    right = max(rows - wrong_rows, 0)
    share = wrong_rows / rows
    said = -wrong_rows * math.log(share) - (right * math.log(1 - share) if right else 0.0)
    return said + math.log(math.comb(len(members), len(wrong)))


def _sampled(item: ServedSlice, path: str) -> int:
    found = item.paths.get(path)
    return sum(found.recomputed.values()) if found else 0


def _repeated(
    night: NightSlices, fingerprint: str, slices: Mapping[SliceKey, ServedSlice], path: str
) -> Iterable[Evidence]:
    """What the sample says of one path."""
    everything = slices[()]
    if not _sampled(everything, path):
        if path == HIT and everything.paths.get(HIT) and everything.paths[HIT].rows:
            yield _not_sampled()
        return
    if not everything.paths[path].disagreeing:
        yield _agreeing(everything, path)
        return
    wrong = wrong_slices(night, fingerprint, path)
    named = ", ".join(item.name for item in wrong[:_MANY_SLICES])
    named += f" and {len(wrong) - _MANY_SLICES} more" if len(wrong) > _MANY_SLICES else ""
    alone = wrong == (everything,)
    where = "" if alone else f"; all in {named}"
    computed = everything.paths.get(MISS)
    if path == HIT and computed and computed.disagreeing:
        where += "; computed ones differ too, so the model may not repeat itself"
    yield _differing(everything, path, where)
    for item in () if alone else wrong:
        yield _differing(item, path)


def _agreeing(item: ServedSlice, path: str) -> Evidence:
    sampled, found = _sampled(item, path), item.paths[path]
    return _evidence(
        item,
        path,
        Outcome.OK,
        f"{sampled:,} answers {_WHAT[path]} were computed again: all equal but for rounding "
        f"(at most {found.max_difference:.2g})",
    )


def _differing(item: ServedSlice, path: str, where: str = "") -> Evidence:
    sampled, found = _sampled(item, path), item.paths[path]
    outcome = Outcome.BLOCK if path == HIT else Outcome.WARN
    message = (
        f"{found.disagreeing:,} of {sampled:,} answers {_WHAT[path]} differ from the model's own, "
        f"by up to {found.max_difference:.3g}{where}"
    )
    return _evidence(item, path, outcome, message)


def _evidence(item: ServedSlice, path: str, outcome: Outcome, message: str) -> Evidence:
    sampled, found = _sampled(item, path), item.paths[path]
    low, high = intervals.wilson(found.disagreeing, sampled)
    return Evidence(
        subject=f"slice:{item.name}",
        measure=MEASURES[path],
        outcome=outcome,
        message=message,
        effect=found.max_difference,
        value=found.disagreeing / sampled,
        interval=(float(low), float(high)),
        n=sampled,
        severity=Outcome.BLOCK if path == HIT else Outcome.WARN,
    )


def _not_sampled() -> Evidence:
    return Evidence(
        subject="slice:overall",
        measure=MEASURES[HIT],
        outcome=Outcome.INSUFFICIENT_DATA,
        message="no answer from the cache was computed again",
        n=0,
    )


def _beside(
    slices: Mapping[SliceKey, ServedSlice], threshold: float, policy: EvaluationPolicy
) -> Iterable[Evidence]:
    """The metrics of the rules on cached rows and on computed ones, where both can be judged."""
    metrics = tuple(dict.fromkeys(rule.metric for rule in policy.rules))
    for _, item in sorted(slices.items(), key=lambda found: (len(found[0]), found[0])):
        for metric in metrics:
            yield from _metric_beside(metric, item, threshold, policy)


def _metric_beside(
    metric: Metric, item: ServedSlice, threshold: float, policy: EvaluationPolicy
) -> Iterable[Evidence]:
    # The slice's own share of independent rows stands for both paths: hits repeat more than that,
    # misses less. Good enough for what decides nothing.
    repeats = labelled_repeats(item, threshold)
    share = repeats.share
    hits, misses = (item.counts(threshold, (path,)).candidate() for path in (HIT, MISS))
    one, other = (
        served_estimate(metric, c, share, policy.confidence_level) for c in (hits, misses)
    )
    for counts, found in ((hits, one), (misses, other)):
        if too_few(metric, int(counts.confusion.n * share), int(found.cases * share), policy):
            return
    found_difference = served_difference(
        metric, hits, misses, (repeats, repeats), policy.confidence_level
    )
    if found_difference is None or one.value is None or other.value is None:
        return
    low, high = found_difference.interval
    yield Evidence(
        subject=f"slice:{item.name}",
        measure=metric,
        outcome=Outcome.OK,
        message=f"{metric} {one.value:.3f} on cached rows, {other.value:.3f} on computed ones, "
        f"{found_difference.value:+.3f} ({low:+.3f} to {high:+.3f}); they are different rows",
        effect=found_difference.value,
        interval=found_difference.interval,
        value=one.value,
        baseline=other.value,
        n=one.cases,
        n_baseline=other.cases,
        severity=Outcome.WARN,
    )


def _reason(repeated: list[Evidence], outcome: Outcome) -> str:
    deciding = [item for item in repeated if item.outcome is outcome]
    if not deciding:
        return "no answer was computed again, so cached ones were not compared with the model's"
    if outcome is Outcome.INSUFFICIENT_DATA:
        return deciding[0].message
    return "; ".join(item.message for item in deciding if item.subject == "slice:overall")
