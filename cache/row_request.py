"""What is asked of the cache, and what it answers. No IO here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NamedTuple

from tfx_encore.cache.entry import Entry
from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.selection import TRANSFORMED

COMPUTED = "computed"
"""`Answer.source` of what the model has just computed."""


class RowRequest(NamedTuple):
    """One row of a request.

    Attributes:
        key: the row key, by the `cache.keys.KeyMaker` of fingerprint, signature and output filter.
        row: the row's canonical bytes.
        fingerprint: of the model that is to answer: what the label pointed at when the request
            came.
        signature: its name, for the lifetime of the answer.
        payload: whatever computing the answer needs; the cache does not look at it.
    """

    key: bytes
    row: bytes
    fingerprint: str
    signature: str
    payload: Any = None


class Computed(NamedTuple):
    """What the model makes of one row.

    Attributes:
        answer: the answer's bytes (`cache.answers`); for a rejection, the error as JSON.
        fingerprint: of the model that did answer.
        kind: `answer`, or `rejection`: the model refuses this input and always will.
    """

    answer: bytes
    fingerprint: str
    kind: Literal["answer", "rejection"] = "answer"


class Answer(NamedTuple):
    """One row's answer and where it is from.

    Attributes:
        entry: the answer itself.
        source: name of the tier that had it, or `computed`.
        matched: the row by which it was found.
    """

    entry: Entry
    source: str
    matched: Literal["raw", "transformed"] = "raw"

    @property
    def data(self) -> bytes:
        """The answer's bytes."""
        return self.entry.answer

    @property
    def is_hit(self) -> bool:
        """True if the model did not have to compute it for this request."""
        return self.source != COMPUTED


class TransformedRow(NamedTuple):
    """A row as the model's transformation leaves it; made by `transformed_row`.

    Attributes:
        key: row key.
        row: bytes that no raw row has.
    """

    key: bytes
    row: bytes


def transformed_row(maker: KeyMaker, row: bytes) -> TransformedRow:
    """Returns the key and the row by which an answer is shared among raw rows.

    Args:
        maker: the one that makes the raw keys of the same fingerprint, signature and filter.
        row: canonical bytes of the transformed features.
    """
    marked = TRANSFORMED + row
    return TransformedRow(maker.key(marked), marked)


Compute = Callable[[Sequence[RowRequest]], Awaitable[Sequence[Computed]]]
"""Computes rows, all in one call; one result for each, in their order. It may be called after the
request that brought it has been answered (early refresh, or when its caller was cancelled)."""

Transform = Callable[[Sequence[RowRequest]], Awaitable[Sequence["TransformedRow | None"]]]
"""Transforms rows without the model; None for a row that has no certified transformed key."""
