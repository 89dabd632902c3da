"""The answer to one request, and where its rows came from. No IO here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfx_encore.cache.answers import decode_answer, decode_batch
from tfx_encore.cache.row_request import Answer
from tfx_encore.cache.rows import to_array
from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.observer import CacheStatus
from tfx_encore.gateway.routing import Pointer
from tfx_encore.gateway.servable import CacheMode, Servable
from tfx_encore.gateway.signature import Array, Signature


class Freshness(NamedTuple):
    """Until when an answer may be repeated for an equal request.

    Attributes:
        pointer: what the request named.
        servable: that answered; the pointer must still point at it.
        changes: `InvalidationState.changes` when the answer was looked up; it must be the same.
        expires_at: seconds since 1970; 0.0 for never.
    """

    pointer: Pointer
    servable: Servable
    changes: int
    expires_at: float


class Prediction:
    """The answer to one request.

    Attributes:
        servable: the version that answered.
        signature: the signature that answered.
        output_filter: outputs asked for; empty for all.
        mode: how it was cached.
        answers: one for each row, or one for the whole request; empty if it was not cached.
        rows: number of rows; 1 for a whole request.
        hits: of these, answered without the model.
        freshness: until when it may be repeated; None if it may not.
    """

    __slots__ = (
        *("servable", "signature", "output_filter", "mode", "answers", "rows", "hits"),
        *("freshness", "_arrays"),
    )

    def __init__(
        self,
        servable: Servable,
        signature: Signature,
        output_filter: Sequence[str],
        mode: CacheMode,
        *,
        answers: Sequence[Answer] = (),
        arrays: dict[str, Array] | None = None,
        freshness: Freshness | None = None,
    ) -> None:
        self.servable = servable
        self.signature = signature
        self.output_filter = tuple(output_filter)
        self.mode = mode
        self.answers = answers
        self.rows = len(answers)
        self.hits = sum(answer.is_hit for answer in answers)
        self.freshness = freshness
        self._arrays = arrays

    @property
    def status(self) -> CacheStatus:
        """Where the rows came from."""
        if self.mode == "off":
            return "off"
        if self.hits == self.rows:
            return "hit"
        return "partial" if self.hits else "miss"

    def hit_rows(self) -> bytes:
        """Which rows the cache answered, bit i % 8 of byte i // 8 for row i; empty unless some."""
        if self.status != "partial":
            return b""
        bits = [answer.is_hit for answer in self.answers]
        return bytes(np.packbits(bits, bitorder="little"))

    def tensors(self) -> dict[str, Array]:
        """Output name -> value, shape [rows, ...], strings as object arrays of bytes."""
        if self._arrays is None:
            if self.mode == "rows":
                self._arrays = decode_batch([answer.data for answer in self.answers])
            else:
                cells = decode_answer(self.answers[0].data)
                self._arrays = {name: to_array(item) for name, item in cells.items()}
        return self._arrays


def rejection(error: ServingError) -> bytes:
    """Returns what is kept of a refusal."""
    return json.dumps({"code": int(error.code), "message": error.message}).encode()


def raise_rejection(answers: Sequence[Answer]) -> None:
    """Raises the first refusal among answers.

    Raises:
        ServingError: the one that the model gave.
    """
    for answer in answers:
        if answer.entry.kind == "rejection":
            kept = json.loads(answer.data)
            raise ServingError(Code(kept["code"]), kept["message"])
