"""Following the nodes of one type in ML Metadata, reading each of them once.

Listing a type costs time in proportion to all its nodes (0.2 s for ten thousand). A follower looks
every second, so after the first listing only the newest nodes of the whole store are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from ml_metadata import ListOptions, OrderByField, errors

# How many of the newest nodes to read, first and then; beyond that the whole type is listed.
_PAGES = (50, 500)
# Ids are given when a transaction begins but seen when it ends, so a page reaches known ground
# only where it reaches well below what was newest before.
_OVERLAP = 25


class TypeListing:
    """The artifacts, or the executions, of one type.

    A node is given out by `fresh` until `settle` is called with its id: an artifact may be listed
    while its execution is still running, or while its file cannot be read yet.

    Args:
        kind: which nodes.
        type_name: their type.
    """

    def __init__(self, kind: Literal["artifact", "execution"], type_name: str) -> None:
        self._kind = kind
        self._type_name = type_name
        self._horizon: int | None = None
        self._settled: set[int] = set()
        self._open: set[int] = set()

    def fresh(self, store: Any, *, everything: bool = False) -> list[Any]:
        """Returns the nodes that are not settled, in order of id.

        Args:
            store: a `MetadataStore`.
            everything: lists the whole type, for a caller who knows that something is missing.
        """
        type_id = self._type_id(store)
        if type_id is None:
            return []
        newest, reached = self._newest(store)
        if everything or not reached:
            found: Iterable[Any] = self._all(store)
        else:
            listed = [node for node in newest if node.type_id == type_id]
            found = [*listed, *self._by_id(store, self._open - {node.id for node in listed})]
        self._horizon = max((node.id for node in newest), default=0)
        unsettled = {node.id: node for node in found if node.id not in self._settled}
        self._open |= unsettled.keys()
        return [unsettled[node_id] for node_id in sorted(unsettled)]

    def settle(self, node_id: int) -> None:
        """Notes that the node needs no second look: nodes of these types do not change."""
        self._settled.add(node_id)
        self._open.discard(node_id)

    def _type_id(self, store: Any) -> int | None:
        try:
            return int(self._call(store, "get_{}_type")(self._type_name).id)
        except errors.NotFoundError:
            return None

    def _newest(self, store: Any) -> tuple[list[Any], bool]:
        """Returns the newest nodes of the store, and whether they reach known ground."""
        newest: list[Any] = []
        for page in _PAGES:
            options = ListOptions(limit=page, order_by=OrderByField.ID, is_asc=False)
            newest = list(self._call(store, "get_{}s")(list_options=options))
            if self._horizon is None:
                return newest, False
            if len(newest) < page or newest[-1].id <= self._horizon - _OVERLAP:
                return newest, True
        return newest, False

    def _all(self, store: Any) -> list[Any]:
        return list(self._call(store, "get_{}s_by_type")(self._type_name))

    def _by_id(self, store: Any, ids: set[int]) -> list[Any]:
        return list(self._call(store, "get_{}s_by_id")(sorted(ids))) if ids else []

    def _call(self, store: Any, method: str) -> Any:
        return getattr(store, method.format(self._kind))
