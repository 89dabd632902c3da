"""What `encore cache` asks of one worker, answered. asyncio."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfx_encore.gateway.admin_messages import (
    ModelStats,
    TierStats,
    VerifyReply,
    VersionStats,
    WarmReply,
    WorkerStats,
)
from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.metrics_families import CACHE_HITS, CACHE_MISSES, ROWS
from tfx_encore.gateway.metrics_numbers import Numbers
from tfx_encore.gateway.model_cache import ModelCache
from tfx_encore.gateway.servable import Servable
from tfx_encore.gateway.verifying import Verifier
from tfx_encore.metadata.night_snapshots import snapshots_of
from tfx_encore.metadata.release_layout import SNAPSHOT, Layout
from tfx_encore.schemas.errors import EncoreError

if TYPE_CHECKING:
    from tfx_encore.gateway.server import GatewayServer


class ServerAdmin:
    """Answers requests about a server."""

    def __init__(self, server: GatewayServer) -> None:
        self._server = server

    async def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Returns the reply to a request (`admin_messages.Request` as a dictionary).

        Raises:
            EncoreError: it cannot be done.
        """
        name = command["command"]
        if name == "stats":
            return (await self._stats()).model_dump()
        if name == "warm":
            return (await self._warm(command["model"], command["snapshot"])).model_dump()
        if name == "verify":
            return (await self._verify(command["model"], command["rows"])).model_dump()
        if name == "metrics":
            return {"pid": os.getpid(), "state": self._server.metrics.state().decode()}
        if name == "reload":
            self._server.poke()
            return {"worker": self._server.worker}
        raise EncoreError(f"this gateway does not know {name!r}")

    # --- stats -----------------------------------------------------------------------------------

    async def _stats(self) -> WorkerStats:
        server = self._server
        numbers = server.metrics.numbers()
        is_ready, _ = server.ready()
        return WorkerStats(
            worker=server.worker,
            pid=os.getpid(),
            is_ready=is_ready,
            consumer=server.consumer,
            rest_port=server.rest_port or None,
            grpc_port=server.grpc_port or None,
            models=tuple([await self._model(name, numbers) for name in server.manager.names()]),
        )

    async def _model(self, name: str, numbers: Numbers) -> ModelStats:
        server = self._server
        cache = server.caches.find(name)
        routes = server.router.routes(name)
        default = routes.target(None, None)
        in_memory = await _entries(cache)
        follower = cache.follower if cache else None
        error = follower.last_error if follower else None
        return ModelStats(
            model=name,
            versions=tuple(
                _version(servable, routes.labels, default, in_memory)
                for _, servable in sorted(routes.versions.items())
            ),
            tiers=tuple(_tiers(cache)),
            hits=_hits(numbers, name),
            misses=int(numbers.counters.get((CACHE_MISSES.name, (name,)), 0)),
            generation=cache.state.generation if cache and follower else None,
            ledger_age_seconds=cache.state.seconds_since_last_read()
            if follower and cache
            else None,
            ledger_problem=str(error) if error else "",
            problem=self._problem(name),
        )

    def _problem(self, name: str) -> str:
        """The newest version that should answer and does not."""
        for status in self._server.manager.status(name):
            if status.code != Code.OK:
                return f"version {status.version}: {status.message}"
        return ""

    # --- warm ------------------------------------------------------------------------------------

    async def _warm(self, model: str | None, snapshot: str | None) -> WarmReply:
        loaded: dict[str, int] = {}
        problems: list[str] = []
        for name in self._names(model):
            cache = self._server.caches.find(name)
            if cache is None:
                problems.append(f"{name}: nothing of it is cached")
                continue
            for servable in self._server.router.routes(name).versions.values():
                folder = Path(snapshot) if snapshot else _snapshot_of(servable)
                if not (folder / "snapshot.json").is_file():
                    if snapshot:
                        problems.append(f"{folder} holds no snapshot")
                    continue
                shared = self._server.transforms.of(servable.fingerprint)
                report = await cache.warm(folder, servable.fingerprint, shared)
                if report is None:
                    problems.append(f"{name} {servable.version}: {cache.problem}")
                else:
                    count = report.entries - report.withdrawn
                    loaded[name] = loaded.get(name, 0) + count
        return WarmReply(worker=self._server.worker, loaded=loaded, problems=tuple(problems))

    # --- verify ----------------------------------------------------------------------------------

    async def _verify(self, model: str | None, rows: int) -> VerifyReply:
        verifier = Verifier()
        for name in self._names(model):
            cache = self._server.caches.find(name)
            if cache is None:
                verifier.problems.append(f"{name}: nothing of it is cached")
                continue
            servables = list(self._server.router.routes(name).versions.values())
            await verifier.verify(name, cache, servables, rows)
        return VerifyReply(
            worker=self._server.worker,
            checked=verifier.checked,
            different=verifier.different,
            differences=tuple(verifier.differences),
            problems=tuple(verifier.problems),
        )

    def _names(self, model: str | None) -> tuple[str, ...]:
        names = self._server.manager.names()
        if model is None:
            return names
        if model not in names:
            raise EncoreError(f"no model {model!r} is served; there are {', '.join(names)}")
        return (model,)


async def _entries(cache: ModelCache | None) -> dict[str, int]:
    """Fingerprint -> entries in memory."""
    for tier in cache.cache.stats() if cache else ():
        if tier.fingerprints is not None:
            return dict(tier.fingerprints)
    return {}


def _version(
    servable: Servable,
    labels: Any,
    default: Servable | None,
    in_memory: dict[str, int],
) -> VersionStats:
    return VersionStats(
        version=servable.version,
        fingerprint=servable.fingerprint,
        labels=tuple(sorted(name for name, at in labels.items() if at == servable.version)),
        is_default=servable is default,
        warmed=servable.warmed,
        entries=in_memory.get(servable.fingerprint),
        caching={name: f"{plan.mode}: {plan.reason}" for name, plan in servable.plans.items()},
    )


def _tiers(cache: ModelCache | None) -> Iterable[TierStats]:
    for tier in cache.cache.stats() if cache else ():
        yield TierStats(
            tier=tier.name,
            is_shared=tier.name != "memory",
            entries=tier.entries,
            bytes=tier.bytes_used,
            breaker=tier.breaker.value,
        )


def _hits(numbers: Numbers, model: str) -> dict[str, int]:
    """Kind -> rows, over all tiers."""
    hits: dict[str, int] = {}
    for (name, labels), count in numbers.counters.items():
        if name == CACHE_HITS.name and labels[0] == model:
            hits[labels[-1]] = hits.get(labels[-1], 0) + int(count)
    # What the quickest tier answers, whole responses, no row's tier is asked for.
    answered = int(numbers.counters.get((ROWS.name, (model, "cache")), 0))
    whole = answered - sum(hits.values())
    return hits | ({"whole": whole} if whole > 0 else {})


def _snapshot_of(servable: Servable) -> Path:
    """The newest snapshot of a version; of one without any, where its release's would be."""
    home = Path(servable.path).parent
    found = snapshots_of(home.parent, home.name, servable.version, servable.fingerprint)
    released = Layout(home.parent, home.name).evidence(servable.version) / SNAPSHOT
    return found[0] if found else released
