"""What is wanted of a model, and what follows from it. No IO here.

The rules that keep a model answering while its versions change:

* What is wanted takes the place of what is served only when it is AVAILABLE.
* What is served stays until then, wanted or not.
* A version that cannot be loaded takes nothing's place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple


class Aspired(NamedTuple):
    """One version that is to be made ready.

    Attributes:
        model: the model's name.
        version: its version.
        path: of the SavedModel.
        release: True if it lies in a release directory.
    """

    model: str
    version: int
    path: str
    release: bool


@dataclass(frozen=True)
class Aspirations:
    """What is wanted of a model.

    Attributes:
        versions: version -> path of its SavedModel.
        labels: label -> version.
        default: version for requests that name neither; None for the highest that answers.
        release: True if the versions lie in a release directory.
    """

    versions: Mapping[int, str] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    default: int | None = None
    release: bool = False


class Choice(NamedTuple):
    """Which versions answer which requests.

    Attributes:
        versions: those that answer at all.
        labels: label -> version; a version that is not among them answers nothing.
        default: version for requests that name neither; None if no version answers.
    """

    versions: frozenset[int]
    labels: dict[str, int]
    default: int | None


def choose(wanted: Aspirations, available: AbstractSet[int], now: Choice) -> Choice:
    """Returns which versions are to answer.

    Args:
        wanted: of the model.
        available: versions that are ready to answer.
        now: which answer now.
    """
    labels = {
        label: _target(version, now.labels.get(label), wanted.versions, available)
        for label, version in wanted.labels.items()
    }
    default = _default(wanted, available, now.default)
    held = {
        labels[label]
        for label, version in wanted.labels.items()
        if labels[label] != version and version in wanted.versions
    }
    kept = {*wanted.versions, *held, default}
    return Choice(frozenset(available & kept), labels, default)


def load_order(wanted: Aspirations) -> list[int]:
    """Returns the versions that are wanted: the default's first, then labels', newest first."""
    labelled = set(wanted.labels.values())
    return sorted(
        wanted.versions,
        key=lambda version: (version != wanted.default, version not in labelled, -version),
    )


def lacking(wanted: Aspirations, available: AbstractSet[int], failed: Collection[int]) -> list[str]:
    """Returns what a model still needs before it is ready, one phrase each.

    Args:
        wanted: of the model.
        available: versions that are ready to answer.
        failed: versions that could not be loaded.
    """
    if not wanted.versions:
        is_meant = (
            wanted.release and not wanted.labels
        )  # everything was withdrawn, or nothing pushed
        return [] if is_meant else ["no version is there to be served"]
    default = wanted.default
    if default not in wanted.versions:
        hopeful = [version for version in wanted.versions if version not in failed]
        default = max(hopeful or wanted.versions)
    needed = {f"label {label}": version for label, version in sorted(wanted.labels.items())}
    return [
        f"version {version} ({name}) "
        + ("could not be loaded" if version in failed else "is not loaded yet")
        for name, version in {"default": default, **needed}.items()
        if version not in available
    ]


def _target(
    version: int, before: int | None, wanted: Mapping[int, str], available: AbstractSet[int]
) -> int:
    """Returns where a label points."""
    if version in available:
        return version
    if before in available and before is not None and (version in wanted or before in wanted):
        return before
    return version


def _default(wanted: Aspirations, available: AbstractSet[int], before: int | None) -> int | None:
    """Returns where requests go that name nothing."""
    if not wanted.versions:
        return None
    kept = before if before in available else None
    if wanted.default in wanted.versions:
        # Not another one instead: it might be a canary.
        is_ready = wanted.default in available or kept is None
        return wanted.default if is_ready else kept
    serving = available & wanted.versions.keys()
    if serving:
        return max(serving)
    return kept if kept is not None else max(available, default=None)
