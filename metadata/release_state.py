"""What is live: the content of `labels.json`, and how it changes. No IO here.

Whoever holds a state knows everything that was committed; a version or a journal entry that the
state does not cover does not exist yet, or no longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field, replace

from pydantic.dataclasses import dataclass

from tfx_encore.schemas.errors import DataError, ReleaseCorruptError, VersionNotFoundError
from tfx_encore.schemas.serial import from_json, to_json

STATE_FORMAT = 1


@dataclass(frozen=True)
class ReleaseState:
    """One committed state of a model's releases.

    Attributes:
        labels: label -> version.
        versions: the versions on disk, ascending.
        highest_version: the highest version ever pushed; 0 if none.
        sequence: the newest invalidation record's sequence; 0 if none.
        previous: label -> the version it pointed at before, while that is on disk. TF Serving
            keeps it loaded, so that a switch has no gap and a rollback is immediate.
    """

    labels: dict[str, int] = field(default_factory=dict)
    versions: tuple[int, ...] = ()
    highest_version: int = 0
    sequence: int = 0
    previous: dict[str, int] = field(default_factory=dict)
    format: int = STATE_FORMAT

    def served(self) -> tuple[int, ...]:
        """The versions that TF Serving should hold: what labels point at, and pointed at."""
        return tuple(sorted({*self.labels.values(), *self.previous.values()}))

    def require(self, version: int) -> None:
        """Raises VersionNotFoundError, naming those that exist, unless `version` is on disk."""
        if version not in self.versions:
            raise VersionNotFoundError(
                f"version {version} is not there; {_those(self.versions)}"
                + (
                    "; it was removed by retention, only its manifest is left"
                    if 0 < version <= self.highest_version
                    else ""
                )
            )

    def pushed(self, label: str, keep: int) -> ReleaseState:
        """The state after the next version was pushed under `label`, with `keep` newest kept."""
        version = self.highest_version + 1
        moved = replace(self, versions=(*self.versions, version), highest_version=version).labelled(
            label, version
        )
        newest = moved.versions[-keep:]
        kept = tuple(v for v in moved.versions if v in newest or v in moved.labels.values())
        return replace(
            moved,
            versions=kept,
            previous={name: v for name, v in moved.previous.items() if v in kept},
        )

    def labelled(self, label: str, version: int) -> ReleaseState:
        """The state after `label` was pointed at `version`."""
        before = self.labels.get(label)
        previous = dict(self.previous)
        if before is not None and before != version:
            previous[label] = before
        return replace(self, labels={**self.labels, label: version}, previous=previous)

    def unlabelled(self, label: str) -> ReleaseState:
        """The state after `label` was removed."""
        return replace(
            self,
            labels={name: v for name, v in self.labels.items() if name != label},
            previous={name: v for name, v in self.previous.items() if name != label},
        )

    def recorded(self, records: int) -> ReleaseState:
        """The state after that many more invalidation records."""
        return replace(self, sequence=self.sequence + records)


def _those(versions: Iterable[int]) -> str:
    listed = ", ".join(str(version) for version in versions)
    return f"there are versions {listed}" if listed else "there are no versions yet"


def dump(state: ReleaseState) -> bytes:
    """The bytes of `labels.json`."""
    return f"{to_json(state, indent=2)}\n".encode()


def parse(content: bytes, source: str) -> ReleaseState:
    """Reads the bytes of `labels.json`.

    Raises:
        ReleaseCorruptError: they are not what was written; names `source` and the way out.
    """
    try:
        state = from_json(ReleaseState, content, source=source)
    except DataError as error:
        raise ReleaseCorruptError(f"{error}; {_WAY_OUT}") from error
    problem = next(_contradictions(state), None)
    if problem:
        raise ReleaseCorruptError(f"{source}: {problem}; {_WAY_OUT}")
    return state


_WAY_OUT = "undo the edit or restore the file from a copy; what is being served is untouched"


def _contradictions(state: ReleaseState) -> Iterator[str]:
    """Why this cannot have been written by us, worst first."""
    if state.format != STATE_FORMAT:
        yield f"format {state.format} was written by another version of tfx_encore, not by this one"
    if state.sequence < 0 or state.highest_version < 0:
        yield "sequence and highest_version cannot be negative"
    if list(state.versions) != sorted(set(state.versions)):
        yield f"versions {list(state.versions)} are not ascending"
    if state.versions and not 1 <= state.versions[0] <= state.versions[-1] <= state.highest_version:
        yield f"versions {list(state.versions)} are not within 1 to {state.highest_version}"
    for label, version in sorted(state.labels.items()):
        if version not in state.versions:
            yield f"label {label!r} points at version {version}, but {_those(state.versions)}"
