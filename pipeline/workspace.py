"""Where a project keeps what it makes, and the lock that keeps two runs apart."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

from tfx_encore.pipeline.config import ProjectConfig
from tfx_encore.schemas.errors import WorkspaceBusyError


@dataclass(frozen=True)
class Workspace:
    """Paths of a project. All absolute.

    Attributes:
        project: folder of the project file; relative paths in it start here.
        root: the workspace itself.
        releases: the release directory's root; a model's releases are one level down.
    """

    project: pathlib.Path
    root: pathlib.Path
    releases: pathlib.Path

    @classmethod
    def of(cls, config: ProjectConfig, config_file: str | pathlib.Path) -> Workspace:
        """The workspace of a project file."""
        project = pathlib.Path(config_file).resolve().parent
        root = (project / config.workspace).resolve()
        releases = (project / config.releases).resolve() if config.releases else root / "releases"
        return cls(project=project, root=root, releases=releases)

    @property
    def artifacts(self) -> pathlib.Path:
        """TFX's pipeline root."""
        return self.root / "artifacts"

    @property
    def night_artifacts(self) -> pathlib.Path:
        """TFX's pipeline roots of nights, one folder for each day."""
        return self.artifacts / "nights"

    @property
    def inputs(self) -> pathlib.Path:
        """Copies of small inputs under names that change with their content."""
        return self.root / "inputs"

    @property
    def reports(self) -> pathlib.Path:
        """HTML reports, one file for each run."""
        return self.root / "reports"

    @property
    def runs(self) -> pathlib.Path:
        """What each run did, as JSON, and its full log."""
        return self.root / "runs"

    def sqlite(self, config: ProjectConfig) -> pathlib.Path:
        """The SQLite file of ML Metadata."""
        if config.metadata.sqlite:
            return (self.project / config.metadata.sqlite).resolve()
        return self.root / "metadata.sqlite"

    def create(self) -> None:
        """Makes the folders."""
        for folder in (self.root, self.artifacts, self.inputs, self.reports, self.runs):
            folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self, kind: str = "run") -> Iterator[None]:
        """Holds the workspace for one run of its kind: `run` or `nightly`.

        Raises:
            WorkspaceBusyError: another process holds it; names the process.
        """
        self.create()
        with (self.root / f"{kind}.lock").open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise WorkspaceBusyError(
                    f"another `encore {kind}` (process {holder}) is under way in {self.root}; "
                    "wait for it to end, or give this one another `workspace`"
                ) from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield
