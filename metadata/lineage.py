"""What an artifact was made from: the executions and artifacts upstream of it in ML Metadata."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Union

from ml_metadata.proto import metadata_store_pb2 as pb

from tfx_encore.schemas.errors import LedgerError

Value = Union[str, int, float, bool]

_OUTPUTS = frozenset({pb.Event.OUTPUT, pb.Event.DECLARED_OUTPUT, pb.Event.INTERNAL_OUTPUT})
_INPUTS = frozenset({pb.Event.INPUT, pb.Event.DECLARED_INPUT, pb.Event.INTERNAL_INPUT})

# ML Metadata takes no more ids than this in one question without slowing down.
_BATCH = 100


@dataclass(frozen=True)
class LineageArtifact:
    """An artifact as ML Metadata holds it.

    Attributes:
        id: its id in the store.
        type: its type's name, as `Examples` or `tfx_encore.DriftReport`.
        name: its name, empty if it has none.
        uri: where its payload is.
        state: `LIVE`, `PENDING`, `DELETED`...
        created_at: UTC, RFC 3339 with milliseconds.
        properties: typed and custom properties in one; a custom one wins.
    """

    id: int
    type: str
    name: str
    uri: str
    state: str
    created_at: str
    properties: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class LineageLink:
    """An artifact's part in an execution: the input's or output's name, its place, its id."""

    key: str
    index: int
    artifact_id: int


@dataclass(frozen=True)
class LineageExecution:
    """A run of a component as ML Metadata holds it.

    Attributes:
        id: its id in the store.
        type: its type's name, as `tfx.components.trainer.component.Trainer`.
        name: its name, empty if it has none.
        state: `COMPLETE`, `CACHED`, `FAILED`...
        created_at: UTC, RFC 3339 with milliseconds.
        updated_at: the same, of its last change: the end, for one that has ended.
        inputs: what it read, by key and index.
        outputs: what it wrote, by key and index.
        properties: typed and custom properties in one; a custom one wins.
    """

    id: int
    type: str
    name: str
    state: str
    created_at: str
    updated_at: str
    inputs: tuple[LineageLink, ...] = ()
    outputs: tuple[LineageLink, ...] = ()
    properties: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Lineage:
    """Everything upstream of one artifact, the artifact itself included.

    Attributes:
        root: id of the artifact that was asked for.
        artifacts: in order of id.
        executions: in order of id, so that what ran first comes first.
    """

    root: int
    artifacts: tuple[LineageArtifact, ...]
    executions: tuple[LineageExecution, ...]

    def of_type(self, name: str) -> tuple[LineageArtifact, ...]:
        """Returns the artifacts of a type, in order of id."""
        return tuple(artifact for artifact in self.artifacts if artifact.type == name)


def upstream(store: Any, artifact_id: int, *, max_steps: int = 100) -> Lineage:
    """Walks from an artifact to what made it, what that read, and so on.

    An execution answered from TFX's cache is followed as the one that first made its outputs is:
    both wrote the artifact. Circles are walked once.

    Args:
        store: a `MetadataStore`.
        artifact_id: where to begin.
        max_steps: how many executions deep to go.

    Raises:
        LedgerError: the store has no such artifact.
    """
    if not store.get_artifacts_by_id([artifact_id]):
        raise LedgerError(f"the metadata store has no artifact {artifact_id}; check the id")
    artifacts, executions = {artifact_id}, set[int]()
    frontier = {artifact_id}
    for _ in range(max_steps):
        makers = {
            event.execution_id
            for event in _events(store.get_events_by_artifact_ids, frontier)
            if event.type in _OUTPUTS
        } - executions
        executions |= makers
        read = {
            event.artifact_id
            for event in _events(store.get_events_by_execution_ids, makers)
            if event.type in _INPUTS
        }
        frontier = read - artifacts
        artifacts |= frontier
        if not frontier:
            break
    return Lineage(artifact_id, _artifacts(store, artifacts), _executions(store, executions))


def _artifacts(store: Any, ids: set[int]) -> tuple[LineageArtifact, ...]:
    return tuple(
        LineageArtifact(
            id=node.id,
            type=node.type,
            name=node.name,
            uri=node.uri,
            state=pb.Artifact.State.Name(node.state),
            created_at=_time(node.create_time_since_epoch),
            properties=_properties(node),
        )
        for batch in _batches(ids)
        for node in sorted(store.get_artifacts_by_id(batch), key=lambda node: int(node.id))
    )


def _executions(store: Any, ids: set[int]) -> tuple[LineageExecution, ...]:
    inputs, outputs = _links(_events(store.get_events_by_execution_ids, ids))
    return tuple(
        LineageExecution(
            id=node.id,
            type=node.type,
            name=node.name,
            state=pb.Execution.State.Name(node.last_known_state),
            created_at=_time(node.create_time_since_epoch),
            updated_at=_time(node.last_update_time_since_epoch),
            inputs=_sorted(inputs.get(node.id, ())),
            outputs=_sorted(outputs.get(node.id, ())),
            properties=_properties(node),
        )
        for batch in _batches(ids)
        for node in sorted(store.get_executions_by_id(batch), key=lambda node: int(node.id))
    )


_LinksById = dict[int, list[LineageLink]]


def _links(events: Iterable[Any]) -> tuple[_LinksById, _LinksById]:
    """Returns the inputs and the outputs of each execution."""
    inputs: _LinksById = {}
    outputs: _LinksById = {}
    for event in events:
        side = inputs if event.type in _INPUTS else outputs if event.type in _OUTPUTS else None
        if side is not None:
            side.setdefault(event.execution_id, []).append(_link(event))
    return inputs, outputs


def _link(event: Any) -> LineageLink:
    steps = event.path.steps
    key = next((step.key for step in steps if step.WhichOneof("value") == "key"), "")
    index = next((step.index for step in steps if step.WhichOneof("value") == "index"), 0)
    return LineageLink(key=key, index=index, artifact_id=event.artifact_id)


def _sorted(links: Iterable[LineageLink]) -> tuple[LineageLink, ...]:
    """One execution may declare an input twice, as the DAG says it and as the run resolved it."""
    return tuple(sorted(set(links), key=lambda link: (link.key, link.index, link.artifact_id)))


def _properties(node: Any) -> dict[str, Value]:
    pairs = [*node.properties.items(), *node.custom_properties.items()]
    named = {name: _value(value) for name, value in pairs}
    return {name: value for name, value in sorted(named.items()) if value is not None}


def _value(value: Any) -> Value | None:
    """Returns a plain value; None for structs and protos, which are TFX's own notes."""
    kind = value.WhichOneof("value")
    if kind in ("int_value", "double_value", "string_value", "bool_value"):
        plain: Value = getattr(value, kind)
        return plain
    return None


def _events(get: Any, ids: Iterable[int]) -> list[Any]:
    return [event for batch in _batches(ids) for event in get(batch)]


def _batches(ids: Iterable[int]) -> list[list[int]]:
    ordered = sorted(ids)
    return [ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH)]


def _time(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds % 1000:03d}Z"
