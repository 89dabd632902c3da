"""Reading each node of a type once, although ids may be seen late."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ml_metadata import errors

from tfx_encore.metadata.mlmd_listing import TypeListing


class FakeStore:
    """Artifacts by id; counts what is read."""

    def __init__(self):
        self.nodes = {}
        self.read = 0

    def put(self, *ids, type_id=1):
        self.nodes.update({n: SimpleNamespace(id=n, type_id=type_id) for n in ids})

    def get_artifact_type(self, name):
        if not self.nodes:
            raise errors.NotFoundError(name)
        return SimpleNamespace(id=1)

    def get_artifacts(self, list_options):
        return self._given([self.nodes[n] for n in sorted(self.nodes)[::-1][: list_options.limit]])

    def get_artifacts_by_type(self, _name):
        return self._given([node for node in self.nodes.values() if node.type_id == 1])

    def get_artifacts_by_id(self, ids):
        return self._given([self.nodes[n] for n in ids])

    def _given(self, nodes):
        self.read += len(nodes)
        return nodes


@pytest.fixture
def store():
    return FakeStore()


@pytest.fixture
def listing():
    return TypeListing("artifact", "T")


def _take(listing, store):
    ids = [node.id for node in listing.fresh(store)]
    for node_id in ids:
        listing.settle(node_id)
    return ids


def test_a_type_that_nobody_registered_has_no_nodes(listing, store):
    assert listing.fresh(store) == []


def test_nodes_are_given_once_in_order_of_id(listing, store):
    store.put(3, 1, 2)
    assert _take(listing, store) == [1, 2, 3]
    store.put(5, 4)
    assert _take(listing, store) == [4, 5]
    assert _take(listing, store) == []


def test_nodes_of_other_types_are_not_given(listing, store):
    store.put(1, 3)
    store.put(2, 4, type_id=2)
    assert _take(listing, store) == [1, 3]
    store.put(5, type_id=2)
    store.put(6)
    assert _take(listing, store) == [6]


def test_an_id_that_a_slow_transaction_shows_late_is_found(listing, store):
    store.put(*range(1, 1000))
    assert len(_take(listing, store)) == 999
    store.put(*range(1001, 1021))
    assert _take(listing, store) == list(range(1001, 1021))
    store.put(1000)
    assert _take(listing, store) == [1000]


def test_a_look_that_finds_nothing_reads_one_small_page(listing, store):
    store.put(*range(1, 5001))
    _take(listing, store)
    store.read = 0
    assert _take(listing, store) == []
    assert store.read == 50


def test_what_is_not_settled_is_given_again_however_old_it_grows(listing, store):
    store.put(1)
    assert [node.id for node in listing.fresh(store)] == [1]
    store.put(*range(2, 1000), type_id=2)
    assert [node.id for node in listing.fresh(store)] == [1]
    assert _take(listing, store) == [1]
    assert _take(listing, store) == []


def test_everything_is_listed_when_the_caller_knows_that_something_is_missing(listing, store):
    store.put(*range(2, 2000))
    _take(listing, store)
    store.put(1)
    assert listing.fresh(store) == []
    assert [node.id for node in listing.fresh(store, everything=True)] == [1]
