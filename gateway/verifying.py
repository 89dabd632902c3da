"""Recomputes cached answers and compares: is what is kept what the live model says? asyncio.

An answer computed in another batch may differ by rounding, as the live model's own answers do
(docs/adr/0003-what-row-independent-means.md); numbers further apart than that bound differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfx_encore.cache.answers import decode_answer
from tfx_encore.cache.certification import movement
from tfx_encore.cache.entry import Entry
from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.cache.rows import Row, decode_row, to_array
from tfx_encore.cache.selection import is_transformed
from tfx_encore.cache.tf_example import example_of_row
from tfx_encore.cache.tf_predict import input_tensors
from tfx_encore.gateway.admin_messages import Difference
from tfx_encore.gateway.errors import ServingError
from tfx_encore.gateway.model_cache import ModelCache
from tfx_encore.gateway.models.row_check import ROUNDING_ULPS
from tfx_encore.gateway.servable import Servable
from tfx_encore.gateway.signature import Array, Tensors
from tfx_encore.schemas.errors import DataError, EncoreError

MOST_SHOWN = 100


class _Asked(NamedTuple):
    """How to compute an entry again."""

    signature: str
    inputs: Tensors


class Verifier:
    """Compares samples of one worker's entries.

    Attributes:
        checked: model -> entries compared.
        different: entries whose answers differ.
        differences: the first of them.
        problems: what could not be compared, one line each.
    """

    def __init__(self) -> None:
        self.checked: dict[str, int] = {}
        self.different = 0
        self.differences: list[Difference] = []
        self.problems: list[str] = []

    async def verify(
        self, model: str, cache: ModelCache, servables: Sequence[Servable], rows: int
    ) -> None:
        """Compares entries of the versions that answer.

        Args:
            model: its name.
            cache: of the model.
            servables: versions that answer.
            rows: entries of each version and tier at most.
        """
        passed = 0
        self.checked.setdefault(model, 0)
        for servable in servables:
            for entry in await self._sample(cache, servable, rows):
                asked = question(servable, entry)
                if asked is None:
                    passed += 1
                else:
                    await self._compare(servable, entry, asked)
                    self.checked[model] += 1
        if passed:
            self.problems.append(
                f"{model}: {passed} entries not compared: asked for by another name than a "
                "signature's own outputs, or kept by their transformed rows"
            )

    async def _sample(self, cache: ModelCache, servable: Servable, rows: int) -> list[Entry]:
        try:
            found = await cache.cache.sample(rows, servable.fingerprint)
        except EncoreError as error:
            self.problems.append(f"{servable.name}: {error}")
            return []
        by_key = {entry.key: entry for entries in found.values() for entry in entries}
        entries = [entry for entry in by_key.values() if cache.state.is_valid(entry)]
        return [entry for entry in entries if not is_transformed(entry.row)][:rows]

    async def _compare(self, servable: Servable, entry: Entry, asked: _Asked) -> None:
        signature = servable.signature(asked.signature)
        computed: dict[str, Array] | str
        try:
            outputs = await servable.alone.run(
                asked.signature, asked.inputs, tuple(signature.outputs)
            )
            by_row = servable.plan(asked.signature).mode == "rows"
            computed = {name: array[0] if by_row else array for name, array in outputs.items()}
        except ServingError as error:
            computed = error.message
        cached = _kept(entry)
        if _same(cached, computed):
            return
        self.different += 1
        if len(self.differences) < MOST_SHOWN:
            self.differences.append(
                Difference(
                    model=servable.name,
                    fingerprint=servable.fingerprint,
                    signature=asked.signature,
                    key=entry.key.hex(),
                    cached=_shown(cached),
                    computed=_shown(computed),
                )
            )


def question(servable: Servable, entry: Entry) -> _Asked | None:
    """Returns what the entry answers; None if it cannot be told from its key."""
    for name, plan in servable.plans.items():
        if plan.mode == "off" or servable.maker(name, ()).key(entry.row) != entry.key:
            continue
        try:
            row = decode_row(entry.row)
        except DataError:
            return None
        if plan.mode == "requests" or plan.spec is None:
            return _Asked(name, {feature: to_array(item) for feature, item in row.items()})
        return _Asked(name, tensors_of_row(plan.spec, row))
    return None


def tensors_of_row(spec: SignatureSpec, row: Row) -> dict[str, Array]:
    """Returns the inputs of a batch of one that has this canonical row."""
    if spec.form != "tensors":
        examples = np.empty(1, dtype=object)
        examples[0] = example_of_row(row, spec)
        return {spec.input_name: examples}
    return input_tensors(spec, [row])


def _kept(entry: Entry) -> dict[str, Array] | str:
    if entry.kind == "rejection":
        return entry.answer.decode(errors="replace")
    return {name: to_array(item) for name, item in decode_answer(entry.answer).items()}


def _same(cached: dict[str, Array] | str, computed: dict[str, Array] | str) -> bool:
    if isinstance(cached, str) or isinstance(computed, str):
        # The words of a refusal may name a place in the batch.
        return isinstance(cached, str) and isinstance(computed, str)
    if cached.keys() != computed.keys():
        return False
    return all(movement(cached[name], computed[name])[0] <= ROUNDING_ULPS for name in cached)


def _shown(answer: dict[str, Array] | str) -> str:
    if isinstance(answer, str):
        return answer[:200]
    return ", ".join(f"{name}={array.tolist()}" for name, array in answer.items())[:200]
