"""Where a compiled pipeline will run: image, volumes, secrets. No IO here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Volume:
    """A PersistentVolumeClaim that every task mounts.

    Attributes:
        claim: its name.
        path: absolute path of the mount.
    """

    claim: str
    path: str


@dataclass(frozen=True)
class SecretVariable:
    """An environment variable whose value is in a Kubernetes Secret.

    Attributes:
        secret: name of the Secret.
        key: key in it.
        variable: name of the environment variable.
    """

    secret: str
    key: str
    variable: str


@dataclass(frozen=True)
class Amounts:
    """How much of one resource tasks are promised.

    Attributes:
        each: of a task that is not named; None: nothing.
        of_task: task -> its own.
    """

    each: float | None = None
    of_task: Mapping[str, float] = field(default_factory=dict)

    def of(self, task: str) -> float | None:
        """What this task is promised."""
        return self.of_task.get(task, self.each)


@dataclass(frozen=True)
class Target:
    """Where a compiled pipeline will run.

    Attributes:
        image: container image of every task.
        volumes: what is mounted; the first is where relative paths of encore.yaml start.
        secrets: environment variables from Secrets.
        environment: further environment variables.
        pull_secrets: Secrets for pulling the image.
        pull_policy: `Always`, `IfNotPresent`, `Never`, or "" for Kubernetes' default.
        pipeline_root: where artifacts go: `s3://`, `gs://` or `minio://`; "" for the backend's own.
        cpu: cores; a task may use more while its node has them to spare.
        memory: bytes; a task that takes more is killed.
    """

    image: str
    volumes: tuple[Volume, ...]
    secrets: tuple[SecretVariable, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    pull_secrets: tuple[str, ...] = ()
    pull_policy: str = ""
    pipeline_root: str = ""
    cpu: Amounts = Amounts()
    memory: Amounts = Amounts()

    @property
    def home(self) -> PurePosixPath:
        """The folder that relative paths of encore.yaml start from, on the cluster."""
        return PurePosixPath(self.volumes[0].path if self.volumes else "/")

    def place(self, path: str) -> str:
        """A path of encore.yaml as tasks see it; URIs and absolute paths stay."""
        return path if "://" in path else str(self.home / path)
