"""How workers behind one port agree on the routes they serve. No IO here.

Routes are known by a digest of what they say. Each worker notes, by model, the routes that it
could serve at once. What is agreed for a model changes when every member is ready for the same
other routes, in one step for all of them:

event    who              what happens
enter    a process        it takes a worker's place, outside
note     any worker       its readiness for a model's routes replaces the one before
admit    outside          it is ready for exactly what is agreed: it becomes a member
                          there is no member: it becomes one, and what it is ready for is agreed
settle   any worker       every member is ready for the same other routes of a model: agreed
drop     any worker       a member that died, or whose heart stood still, is put outside

Only members serve. So nobody serves routes before every member can, since a worker is ready for
what it has noted; and nobody serves routes after another member has served later ones, since each
member looks at the epoch before it answers. What comes back after it was dropped has to be admitted
again.

Each function returns another table, or the same one if nothing changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from tfx_encore.gateway.routing import Routes

NOTHING = "none"
"""The digest of a model that is not served."""


@dataclass(frozen=True)
class Member:
    """One worker.

    Attributes:
        pid: its process.
        is_member: whether it serves, and its readiness counts.
        ready: model -> digest of the routes that it could serve at once.
    """

    pid: int
    is_member: bool = False
    ready: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """What the workers know of each other.

    Attributes:
        epoch: how often what is agreed, or who serves it, has changed.
        agreed: model -> digest of the routes that every member serves.
        workers: number -> worker.
    """

    epoch: int = 0
    agreed: Mapping[str, str] = field(default_factory=dict)
    workers: Mapping[int, Member] = field(default_factory=dict)

    def members(self) -> dict[int, Member]:
        """The workers that serve."""
        return {number: each for number, each in self.workers.items() if each.is_member}


def digest(routes: Routes | None) -> str:
    """Returns a name for what routes say: equal routes of different workers have the same."""
    if routes is None or not routes.versions:
        return NOTHING
    said = [
        sorted((version, each.fingerprint) for version, each in routes.versions.items()),
        sorted(routes.labels.items()),
        routes.default,
    ]
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=12).hexdigest()


def enter(table: Table, worker: int, pid: int) -> Table:
    """A process takes a worker's place; whoever had it before is gone."""
    return _with(table, worker, Member(pid))


def leave(table: Table, worker: int) -> Table:
    """A worker is gone."""
    if worker not in table.workers:
        return table
    workers = {number: each for number, each in table.workers.items() if number != worker}
    return replace(table, epoch=table.epoch + 1, workers=workers)


def note(table: Table, worker: int, model: str, routes: str) -> Table:
    """A worker could serve these routes at once, and no longer those that it noted before."""
    member = table.workers[worker]
    if member.ready.get(model, NOTHING) == routes:
        return table
    ready = {**member.ready, model: routes}
    return _with(table, worker, replace(member, ready=ready))


def drop(table: Table, workers: Collection[int]) -> Table:
    """Puts members outside."""
    gone = {number for number, each in table.members().items() if number in workers}
    if not gone:
        return table
    moved = {
        number: replace(each, is_member=False) if number in gone else each
        for number, each in table.workers.items()
    }
    return replace(table, epoch=table.epoch + 1, workers=moved)


def admit(table: Table, worker: int) -> Table:
    """Makes a worker a member if it can serve what is agreed, or nobody else serves."""
    member = table.workers[worker]
    if member.is_member:
        return table
    agreed = table.agreed
    if not table.members():
        agreed = _served(member.ready)
    elif any(member.ready.get(model, NOTHING) != routes for model, routes in agreed.items()):
        return table
    workers = {**table.workers, worker: replace(member, is_member=True)}
    return Table(table.epoch + 1, agreed, workers)


def settle(table: Table) -> Table:
    """Agrees on what every member is ready for."""
    members = list(table.members().values())
    if not members:
        return table
    common = {
        model: routes
        for model, routes in members[0].ready.items()
        if all(each.ready.get(model, NOTHING) == routes for each in members)
    }
    wanted = _served({**table.agreed, **common})
    if wanted == table.agreed:
        return table
    return replace(table, epoch=table.epoch + 1, agreed=wanted)


def waited_for(table: Table, model: str, worker: int) -> list[int]:
    """The members that are not ready for what a worker is ready for."""
    wanted = table.workers[worker].ready.get(model, NOTHING)
    return [n for n, each in table.members().items() if each.ready.get(model, NOTHING) != wanted]


def _served(routes: Mapping[str, str]) -> dict[str, str]:
    return {model: each for model, each in routes.items() if each != NOTHING}


def _with(table: Table, worker: int, member: Member) -> Table:
    before = table.workers.get(worker)
    # Whoever was a member is one no more: the others have to see it.
    epoch = table.epoch + (before is not None and before.is_member != member.is_member)
    return replace(table, epoch=epoch, workers={**table.workers, worker: member})
