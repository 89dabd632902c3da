"""Answers a sample of the day's rows again, and holds the served answers against them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from absl import logging

from tfx_encore.cache.saved_model_graph import load_meta_graph, read_signature
from tfx_encore.components.cache_warmer.inference import Outputs, Session, padded
from tfx_encore.components.logged_evaluator.decoding import decode
from tfx_encore.components.logged_evaluator.rows import Floats, Rows
from tfx_encore.components.logged_evaluator.sample import Sample
from tfx_encore.components.logged_evaluator.slicing import Members, Slicer
from tfx_encore.components.logged_evaluator.tally import Place, Repeated, row_codes, score_bins
from tfx_encore.monitoring.night_slices import PathCounts
from tfx_encore.monitoring.served_paths import differing
from tfx_encore.schemas.errors import DataError, ModelError
from tfx_encore.schemas.evaluation_policy import EvaluationPolicy
from tfx_encore.schemas.nights import PATHS

_BATCH = 256


@dataclass(frozen=True)
class Again:
    """How a sample is answered again.

    Attributes:
        path: of the SavedModel.
        policy: the signature, its output, and the threshold.
        fingerprints: version -> fingerprint, for logs that only say the version.
    """

    path: str
    policy: EvaluationPolicy
    fingerprints: Mapping[int, str]


def repeat(sample: Sample, again: Again, slicer: Slicer) -> Repeated:
    """Answers the sample and compares, by slice and path.

    Raises:
        ModelError: the model cannot be loaded, lacks the signature, or gives no probability.
    """
    records = [record for path in PATHS for _, record in sample.get(path, [])]
    if not records:
        return Repeated()
    records, scores = _answers(records, again)
    if not records:
        return Repeated()
    rows = decode(records, again.fingerprints)
    return _compared(rows, slicer.members(rows.batch), slicer, scores, again)


def _compared(
    rows: Rows, members: Members, slicer: Slicer, scores: Floats, again: Again
) -> Repeated:
    threshold = again.policy.decision_threshold
    wrong, apart = differing(rows.scores, scores)
    bins, others = (score_bins(of, threshold) for of in (rows.scores, scores))
    codes = row_codes(rows.labels, bins, others)
    rows_by_place: dict[tuple[Place, str], list[int]] = defaultdict(list)
    for row, number in zip(members.rows.tolist(), members.slices.tolist(), strict=True):
        place = (rows.names[rows.models[row]][0], slicer.keys[number])
        rows_by_place[place, PATHS[rows.paths[row]]].append(row)
    found: dict[Place, dict[str, PathCounts]] = defaultdict(dict)
    for (place, path), chosen in rows_by_place.items():
        found[place][path] = PathCounts(
            rows={},
            recomputed=dict(Counter(codes[chosen].tolist())),
            disagreeing=int(wrong[chosen].sum()),
            max_difference=float(apart[chosen].max()),
        )
    return Repeated(dict(found))


def _answers(records: Sequence[bytes], again: Again) -> tuple[list[bytes], Floats]:
    """The rows that the model does not refuse, and its answers."""
    reading = read_signature(load_meta_graph(again.path), again.policy.signature_name)
    if reading.spec.form == "tensors":
        raise ModelError(
            f"signature {again.policy.signature_name!r} takes no tf.Examples; name one that does "
            "in `evaluation.signature_name`"
        )
    session = Session(again.path, reading.spec)
    answered: list[bytes] = []
    scores: list[Floats] = []
    reasons: Counter[str] = Counter()
    for start in range(0, len(records), _BATCH):
        _answer(session, records[start : start + _BATCH], again.policy, (answered, scores, reasons))
    for reason, times in reasons.items():
        logging.warning("LoggedEvaluator: %d sampled rows left out: %s", times, reason)
    return answered, np.concatenate(scores) if scores else np.zeros(0)


def _answer(
    session: Session,
    records: Sequence[bytes],
    policy: EvaluationPolicy,
    into: tuple[list[bytes], list[Floats], Counter[str]],
) -> None:
    """Answers a batch; one that is refused, by halves, until the rows to blame are found."""
    answered, scores, reasons = into
    try:
        outputs = session.answer(padded(records, _BATCH))
    except DataError as error:
        if len(records) == 1:
            reasons[str(error)] += 1
            return
        half = len(records) // 2
        _answer(session, records[:half], policy, into)
        _answer(session, records[half:], policy, into)
        return
    answered.extend(records)
    scores.append(_probabilities(outputs, policy)[: len(records)])


def _probabilities(outputs: Outputs, policy: EvaluationPolicy) -> Floats:
    name = policy.prediction_key or next(iter(outputs))
    if name not in outputs or (not policy.prediction_key and len(outputs) > 1):
        raise ModelError(
            f"signature {policy.signature_name!r} has the outputs {', '.join(sorted(outputs))}; "
            "name the one that holds the probability in `evaluation.prediction_key`"
        )
    array = np.asarray(outputs[name], np.float64)
    if array.size != len(array):
        raise ModelError(
            f"output {name!r} has shape {array.shape}; it has to hold one probability for each row"
        )
    return array.reshape(-1)
