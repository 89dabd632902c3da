"""Whether an artifact stands in the way of a push.

Any artifact can bless: TFX's ModelBlessing and InfraBlessing by the custom property `blessed`, ours
and anyone's by the custom property `outcome` or by a `decision.json`. What says nothing, blesses
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from tfx import types
from tfx.dsl.io import fileio

from tfx_encore.schemas.artifacts import DriftReport, SliceReport
from tfx_encore.schemas.decisions import Decision, Outcome
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.serial import from_json

DECISION_FILE = "decision.json"
BLESSING_PREFIX = "blessing_"

# These always come with a decision; without it they were not written to the end.
_WITH_DECISION = (DriftReport.TYPE_NAME, SliceReport.TYPE_NAME)


def refusals(
    names: Sequence[str], inputs: Mapping[str, Sequence[types.Artifact]], model_uri: str
) -> tuple[tuple[str, str], ...]:
    """Returns (name, reason) of each blessing that stands in the way, in the order given.

    Args:
        names: the blessings that the push needs.
        inputs: `blessing_<name>` -> its artifacts.
        model_uri: the model artifact's uri; a blessing of another model does not count.
    """
    reasons = ((name, refusal(inputs.get(BLESSING_PREFIX + name, ()), model_uri)) for name in names)
    return tuple((name, reason) for name, reason in reasons if reason)


def refusal(artifacts: Sequence[types.Artifact], model_uri: str) -> Optional[str]:
    """Why these artifacts do not bless the model; None if they do."""
    if not artifacts:
        return "it is missing: no artifact came from its component"
    for artifact in artifacts:
        reason = _refusal(artifact, model_uri)
        if reason:
            return reason
    return None


def read_decision(uri: str) -> Optional[Decision]:
    """The decision that an artifact holds; None if it holds none.

    Raises:
        DataError: there is one, but it cannot be read.
    """
    path = f"{uri}/{DECISION_FILE}"
    if not fileio.exists(path):
        return None
    with fileio.open(path, "rb") as stream:
        return from_json(Decision, stream.read(), source=path)


def _refusal(artifact: types.Artifact, model_uri: str) -> Optional[str]:
    other = _property(artifact, "current_model")
    if other and str(other).rstrip("/") != model_uri.rstrip("/"):
        return f"it blesses another model, {other}"
    try:
        decision = read_decision(artifact.uri)
    except DataError as error:
        return f"it cannot be read: {error}"
    if decision is None and artifact.type_name in _WITH_DECISION:
        return f"it cannot be read: {artifact.uri} holds no {DECISION_FILE}"
    if decision is not None and decision.outcome is Outcome.BLOCK:
        return f"BLOCK: {decision.reason}"
    return _refusal_by_property(artifact, said_already=decision is not None)


def _refusal_by_property(artifact: types.Artifact, *, said_already: bool) -> Optional[str]:
    blessed, outcome = _property(artifact, "blessed"), _property(artifact, "outcome")
    if blessed is None and outcome is None:
        return None if said_already else "it says neither `blessed` nor `outcome`"
    # Kubeflow gives integers back as floats.
    if blessed is not None and blessed != 1:
        return f"it is not blessed{_why(artifact)}"
    if outcome is not None and outcome not in {known.value for known in Outcome}:
        return (
            f"its outcome {outcome!r} is not one of {', '.join(known.value for known in Outcome)}"
        )
    return f"BLOCK{_why(artifact)}" if outcome == Outcome.BLOCK.value else None


def _why(artifact: types.Artifact) -> str:
    reason = _property(artifact, "reason")
    return f": {reason}" if reason else ""


def _property(artifact: types.Artifact, name: str) -> Any:
    return artifact.get_custom_property(name)
