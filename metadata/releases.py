"""The release directory of a model: what is live, and every way to change it.

Readers take no lock: `labels.json` is replaced in one step, and what it counts is on disk before.
Writers take turns by a lock, first remove what a killed writer left, and change nothing that a
reader sees until that one step.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tfx_encore.metadata import release_check, release_labels, release_push
from tfx_encore.metadata.files import Disk
from tfx_encore.metadata.journal import read_entries
from tfx_encore.metadata.release_layout import Layout, check_label
from tfx_encore.metadata.release_push import PushRequest, PushResult
from tfx_encore.metadata.release_state import ReleaseState
from tfx_encore.metadata.release_tidy import config_is_current, leftovers
from tfx_encore.metadata.release_writer import ReleaseWriter
from tfx_encore.schemas.clock import utc_now
from tfx_encore.schemas.errors import ConfigError, ReleaseCorruptError, VersionNotFoundError
from tfx_encore.schemas.records import InvalidationRecord, RecordDraft
from tfx_encore.schemas.release import Manifest


class ReleaseDirectory:
    """One model's releases.

    Every method raises ReleaseCorruptError if the directory was edited so that it contradicts
    itself. Methods that change something raise ReleaseBusyError if another process is at it for
    longer than `lock_timeout_seconds`, and ReleaseError if the disk is full or refuses; what was
    live is then untouched.

    Args:
        root: the directory that holds all models' releases.
        model: the model's name.
        lock_timeout_seconds: how long to wait for another writer.
        disk: makes the changes; tests watch it.
        clock: gives the time, UTC, RFC 3339.

    Raises:
        ConfigError: `model` cannot name a model.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        model: str,
        *,
        lock_timeout_seconds: float = 60.0,
        disk: Disk | None = None,
        clock: Callable[[], str] = utc_now,
    ) -> None:
        self._layout = Layout(root, model)
        self._disk = disk or Disk()
        self._writer = ReleaseWriter(self._layout, self._disk, lock_timeout_seconds)
        self._clock = clock

    @property
    def model(self) -> str:
        """The model's name."""
        return self._layout.model

    @property
    def path(self) -> Path:
        """The directory itself: TF Serving's base path."""
        return self._layout.home

    @property
    def models_config_path(self) -> Path:
        """TF Serving's `--model_config_file`."""
        return self._layout.models_config

    def state(self) -> ReleaseState:
        """Everything that is committed, read at one moment."""
        return release_check.load_state(self._layout)

    def labels(self) -> dict[str, int]:
        """Label -> version."""
        return dict(self.state().labels)

    def versions(self) -> tuple[int, ...]:
        """The versions on disk, ascending."""
        return self.state().versions

    def history(self) -> tuple[int, ...]:
        """Every version ever pushed, ascending; of those not on disk only the manifest is left."""
        return tuple(range(1, self.state().highest_version + 1))

    def live(self, label: str = "stable") -> int | None:
        """The version a label points at, or None."""
        return self.state().labels.get(label)

    def manifest(self, version: int) -> Manifest:
        """What a version says of itself, also after retention removed it.

        Raises:
            VersionNotFoundError: it was never pushed.
        """
        state = self.state()
        if not 1 <= version <= state.highest_version:
            state.require(version)
        return release_check.read_manifest(self._layout, version)

    def version_path(self, version: int) -> Path:
        """The SavedModel of a version on disk.

        Raises:
            VersionNotFoundError: it is not on disk.
        """
        self.state().require(version)
        return self._layout.version(version)

    def evidence_path(self, version: int) -> Path:
        """What the decision on a version was made from; after retention, only its manifest.

        Raises:
            VersionNotFoundError: it was never pushed.
        """
        state = self.state()
        if not 1 <= version <= state.highest_version:
            state.require(version)
        return self._layout.evidence(version)

    def records(self, after: int = 0, limit: int | None = None) -> tuple[InvalidationRecord, ...]:
        """Invalidation records with a sequence above `after`, in order, at most `limit`."""
        last = self.state().sequence
        first = max(after, 0) + 1
        return read_entries(
            self._layout, first, last if limit is None else min(last, first + limit - 1)
        )

    def check(self, version: int) -> None:
        """Raises ReleaseCorruptError unless a version on disk is still what was pushed.

        Raises:
            VersionNotFoundError: it is not on disk.
        """
        self.state().require(version)
        release_check.check_version(self._layout, version)

    def verify(self) -> list[str]:
        """What is wrong, one line each, or nothing: reads every file that a manifest names."""
        return list(release_check.problems(self._layout))

    def leftovers(self) -> list[str]:
        """What a killed writer left and the next one removes; no harm to anyone who reads."""
        state = self.state()
        if not self._layout.home.is_dir():
            return []
        lines = [f"{path} is left from a write" for path in leftovers(self._layout, state)]
        if not config_is_current(self._layout, state):
            lines.append(f"{self._layout.models_config} is behind {self._layout.labels.name}")
        return lines

    def repair(self) -> None:
        """Does at once what the next writer would do first: removes leftovers."""
        with self._writer.opened():
            pass

    def push(self, request: PushRequest) -> PushResult:
        """Makes a new version live, unless the content is already there.

        Content equal to the live version's makes no new version; nor does content equal to an
        older version's, and the label does not move then: moving it is for a person to say.

        Raises:
            ConfigError: the label or a name of evidence cannot be.
            ModelError: the SavedModel cannot be read, or changes under the copy.
            PushRefusedError: another version is live than the one it was judged against.
        """
        check_label(request.label)
        fingerprint = release_push.check_request(request)
        with self._writer.opened() as state:
            release_check.check_served(self._layout, state, request.label)
            equal = self._version_of(fingerprint, state)
            if equal is None:
                release_push.check_judged(request, state.labels.get(request.label))
                return self._push_new(state, request, fingerprint)
            return self._already_there(state, request, fingerprint, equal)

    def set_label(
        self, label: str, version: int, *, by: str, reason: str
    ) -> InvalidationRecord | None:
        """Points a label at a version on disk: a rollback, or the way forward again.

        Returns:
            The record of what this withdrew, with cause ROLLED_BACK if the version is older and
            MODEL_PUSHED if it is newer; None if nothing changed or nothing was live under it.

        Raises:
            VersionNotFoundError: the version is not on disk.
        """
        check_label(label)
        self.state().require(version)
        with self._writer.opened() as state:
            state.require(version)
            before = state.labels.get(label)
            if before == version:
                return None
            release_check.check_version(self._layout, version)
            drafts = self._moved(label, before, version, by=by, reason=reason)
            records, _ = self._writer.commit(state.labelled(label, version), drafts, self._clock())
        return records[0] if records else None

    def remove_label(self, label: str, *, by: str, reason: str) -> InvalidationRecord | None:
        """Removes a label; its version becomes subject to retention.

        Returns:
            The record of what this withdrew; None if another label points at the version.

        Raises:
            VersionNotFoundError: there is no such label.
        """
        check_label(label)
        self._require_label(self.state(), label)
        with self._writer.opened() as state:
            self._require_label(state, label)
            after = state.unlabelled(label)
            before = state.labels[label]
            drafts = (
                ()
                if before in after.labels.values()
                else self._moved(label, before, None, by=by, reason=reason)
            )
            records, _ = self._writer.commit(after, drafts, self._clock())
        return records[0] if records else None

    def append_record(self, draft: RecordDraft) -> InvalidationRecord:
        """Writes a record that no push made, and gives it the next sequence.

        Raises:
            ConfigError: the draft is another model's.
        """
        if draft.model != self.model:
            raise ConfigError(f"a record of {draft.model!r} does not belong to {self.model!r}")
        with self._writer.opened() as state:
            records, _ = self._writer.commit(state, (draft,), self._clock())
        return records[0]

    def _push_new(self, state: ReleaseState, request: PushRequest, fingerprint: str) -> PushResult:
        before = state.labels.get(request.label)
        after = state.pushed(request.label, request.keep)
        version = after.highest_version
        now = self._clock()
        manifest = release_push.describe(
            request,
            model=self.model,
            version=version,
            fingerprint=fingerprint,
            baseline_version=before,
            created_at=now,
        )
        release_push.stage(self._disk, self._layout, request, manifest)
        release_push.install(self._disk, self._layout, version)
        withdrawn = f"version {version} replaces version {before} under {request.label!r}"
        drafts = self._moved(
            request.label, before, version, by=request.created_by, reason=withdrawn
        )
        records, trouble = self._writer.commit(after, drafts, now)
        first = (
            f"version {version} is the first under {request.label!r}; it withdraws no answers, "
            "so there is no invalidation record"
        )
        reason = withdrawn if records else first
        return PushResult(version, True, reason + trouble, fingerprint, records)

    def _already_there(
        self, state: ReleaseState, request: PushRequest, fingerprint: str, version: int
    ) -> PushResult:
        label = request.label
        if state.labels.get(label) != version:
            reason = (
                f"the content equals version {version}, which {label!r} does not point at; "
                f"`encore label set {label} {version}` makes it live"
            )
            return PushResult(version, False, reason, fingerprint)
        reason = f"the content equals version {version}, which is live under {label!r}"
        manifest = release_check.read_manifest(self._layout, version)
        if not release_push.same_attempt(manifest, request.provenance):
            return PushResult(version, False, reason, fingerprint)
        records = self._records_of(manifest, state)
        if records:
            reason += "; this run's earlier attempt pushed it, and its record is given again"
        return PushResult(version, False, reason, fingerprint, records, repeated=bool(records))

    def _records_of(
        self, manifest: Manifest, state: ReleaseState
    ) -> tuple[InvalidationRecord, ...]:
        """The records that a version's own push wrote: they bear its time."""
        for sequence in range(state.sequence, 0, -1):
            (record,) = read_entries(self._layout, sequence, sequence)
            if (record.version_after, record.created_at) == (manifest.version, manifest.created_at):
                return (record,)
        return ()

    def _version_of(self, fingerprint: str, state: ReleaseState) -> int | None:
        """The newest version on disk with this content."""
        for version in reversed(state.versions):
            if release_check.read_manifest(self._layout, version).fingerprint == fingerprint:
                return version
        return None

    def _moved(
        self, label: str, before: int | None, after: int | None, *, by: str, reason: str
    ) -> tuple[RecordDraft, ...]:
        if before is None:
            return ()
        return (
            release_labels.moved(
                self.model,
                label,
                (before, self._fingerprint(before)),
                (after, None if after is None else self._fingerprint(after)),
                by=by,
                reason=reason,
            ),
        )

    def _fingerprint(self, version: int) -> str | None:
        """None if a damaged manifest no longer says; that must not stop a rollback away from it."""
        with suppress(ReleaseCorruptError):
            return release_check.read_manifest(self._layout, version).fingerprint
        return None

    def _require_label(self, state: ReleaseState, label: str) -> None:
        if label not in state.labels:
            raise VersionNotFoundError(
                f"{self.model} has no label {label!r}; it has {sorted(state.labels) or 'none'}"
            )


def list_models(root: str | os.PathLike[str]) -> tuple[str, ...]:
    """The models that have a release directory below `root`, sorted."""
    folder = Path(root)
    if not folder.is_dir():
        return ()
    return tuple(sorted(path.parent.name for path in folder.glob("*/labels.json")))
