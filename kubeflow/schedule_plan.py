"""What has to be done so that one recurring run of a name is as it should be. No IO here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional


@dataclass(frozen=True)
class Schedule:
    """A recurring run as it should be.

    Attributes:
        name: its name; one recurring run has it.
        ids: of the pipeline and of the version.
        cron: six fields.
        values: parameter -> value.
        start: RFC 3339 time of the first; "" for now.
        end: RFC 3339 time after which there is none; "" for never.
        pipeline_root: where artifacts go; "" for the pipeline's own.
        service_account: that tasks run under; "" for the backend's own.
        experiment_id: that runs belong to.
        max_concurrency: runs at the same time.
        no_catchup: whether runs that were missed are left out.
    """

    name: str
    ids: tuple[str, str]
    cron: str
    values: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""
    end: str = ""
    pipeline_root: str = ""
    service_account: str = ""
    experiment_id: str = ""
    max_concurrency: int = 1
    no_catchup: bool = False

    @property
    def description(self) -> str:
        """For people who look at it in the UI."""
        return "Made by `encore kubeflow schedule`, which replaces it when called again."


@dataclass(frozen=True)
class Existing:
    """A recurring run as the server has it."""

    id: str
    name: str
    cron: str
    enabled: bool
    max_concurrency: int
    no_catchup: bool
    version_id: str
    values: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""
    end: str = ""
    pipeline_root: str = ""
    service_account: str = ""
    experiment_id: str = ""


@dataclass(frozen=True)
class Steps:
    """What to do, in this order.

    Attributes:
        create: make it anew.
        enable: id of one that is right but disabled.
        delete: ids of those that have its name and are not it.
        keep: id of the one that is right already.
    """

    create: bool
    enable: Optional[str] = None
    delete: tuple[str, ...] = ()
    keep: Optional[str] = None


def steps_to(schedule: Schedule, existing: Sequence[Existing]) -> Steps:
    """The steps from what is there to what should be.

    The API cannot change a recurring run. The new one is made before the old is deleted, so that
    a process that dies in between leaves two and never none; the next call deletes the older.
    """
    same = [found for found in existing if found.name == schedule.name]
    right = [found for found in same if _is_right(found, schedule)]
    kept = right[-1] if right else None
    others = tuple(found.id for found in same if found is not kept)
    if kept is None:
        return Steps(create=True, delete=others)
    return Steps(False, None if kept.enabled else kept.id, others, kept.id)


def _is_right(found: Existing, schedule: Schedule) -> bool:
    wanted = (
        schedule.cron, schedule.ids[1], schedule.max_concurrency, schedule.no_catchup,
        schedule.start, schedule.end, schedule.pipeline_root, _values(schedule.values),
    )  # fmt: skip
    there = (
        found.cron, found.version_id, found.max_concurrency, found.no_catchup,
        found.start, found.end, found.pipeline_root, _values(found.values),
    )  # fmt: skip
    account = not schedule.service_account or found.service_account == schedule.service_account
    experiment = not schedule.experiment_id or found.experiment_id == schedule.experiment_id
    return wanted == there and account and experiment


def _values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON keeps them: a server gives 2 back as 2.0, which is equal."""
    return {name: float(v) if isinstance(v, int) else v for name, v in values.items()}
