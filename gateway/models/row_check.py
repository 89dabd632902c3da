"""Computes a few rows in several ways: may the answers of a signature be cached? asyncio.

The measuring is `cache.certification`; this file finds rows that the model answers, keeps the cost
in bounds, and judges. Rows come from the model's warm-up file, else they are made up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfx_encore.cache.answers import encode_bodies
from tfx_encore.cache.certification import describe, measure, same_answers
from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.cache.rows import STRING, cell, encode_row
from tfx_encore.cache.tf_example import ExampleRows, example_of_row
from tfx_encore.cache.tf_predict import rows_of_tensors
from tfx_encore.gateway.errors import ServingError
from tfx_encore.gateway.model_port import LoadedModel
from tfx_encore.gateway.models.sample_rows import (
    FREE_SIZES,
    SampleRow,
    distinct,
    join,
    made_up,
    made_up_request,
    scalar,
    split,
)
from tfx_encore.gateway.servable import CacheMode
from tfx_encore.gateway.signature import Array, Signature, Tensors
from tfx_encore.schemas.errors import DataError

ROUNDING_ULPS = 64.0
"""How far an answer may move with the size of its batch (schemas.warmup_policy has the same)."""

# Rows, and the calls that `measure` and we make of them: the most that fit the budget are taken.
_EFFORTS = ((32, 125), (8, 50), (4, 30), (2, 14))
_BUDGET_SECONDS = 0.5
_LIMIT_SECONDS = 10.0


class Checked(NamedTuple):
    """What a check showed.

    Attributes:
        mode: the most that is safe.
        reason: one line for a person.
    """

    mode: CacheMode
    reason: str


class _NotByRow(Exception):  # noqa: N818 - a finding
    """The answer has not one row for each row asked for."""


class _TooSlow(Exception):  # noqa: N818 - a finding
    """The check has taken as long as it may."""


async def check_rows(
    model: LoadedModel,
    signature: Signature,
    spec: SignatureSpec,
    requests: Sequence[Tensors],
    words: Sequence[bytes],
) -> Checked:
    """Computes rows again, in other company, order and sizes of batch.

    Args:
        model: what computes.
        signature: whose rows.
        spec: how they are made.
        requests: requests for it that were seen.
        words: texts that the model may know.

    Returns:
        `rows`; `requests` if answers depend on the batch, or nothing shows that they do not; `off`
        if they differ each time, or the model answers nothing that could be tried.
    """
    check = _RowCheck(model, signature, spec, asyncio.get_running_loop())
    return await asyncio.to_thread(check.judge, requests, words)


async def check_requests(
    model: LoadedModel, signature: Signature, requests: Sequence[Tensors], words: Sequence[bytes]
) -> Checked:
    """Computes a whole request twice.

    Returns:
        `requests` if the answers are equal, else `off`.
    """
    refusal = "it takes no inputs"
    tries = [*requests[:2], *(made_up_request(signature, words, size) for size in FREE_SIZES)]
    for inputs in tries:
        try:
            first = await model.run(signature.name, inputs, tuple(signature.outputs))
        except ServingError as error:
            refusal = error.message
            continue
        again = await model.run(signature.name, inputs, tuple(signature.outputs))
        try:
            same = all(_cell_bytes(first[name]) == _cell_bytes(again[name]) for name in first)
            _ = [_cell_bytes(array) for array in inputs.values()]
        except DataError as error:
            return Checked("off", f"no canonical form: {error}")
        if not same:
            return Checked("off", "computing the same request again changed the answer")
        return Checked("requests", "the same request gave the same answer")
    return Checked("off", _nothing_answered(refusal))


class _RowCheck:
    """The check of one signature, in a thread of its own; the model runs on the event loop."""

    def __init__(
        self,
        model: LoadedModel,
        signature: Signature,
        spec: SignatureSpec,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._model = model
        self._signature = signature
        self._spec = spec
        self._loop = loop
        self._end = time.monotonic() + _LIMIT_SECONDS
        self._refusal = ""

    def judge(self, requests: Sequence[Tensors], words: Sequence[bytes]) -> Checked:
        """Blocking; see `check_rows`."""
        try:
            rows = self._find_rows(requests, words)
            if len(rows) < 2:
                return Checked("off", _nothing_answered(self._refusal))
            return self._measure(rows)
        except _NotByRow as finding:
            return Checked("requests", str(finding))
        except _TooSlow:
            return Checked(
                "off",
                f"the check took longer than {_LIMIT_SECONDS:g} s; set a mode in the cache "
                "configuration, or let CacheWarmer certify the release",
            )
        except DataError as error:
            return Checked("off", f"no canonical form: {error}")

    def _measure(self, rows: Sequence[SampleRow]) -> Checked:
        rows = self._affordable(rows)
        count = len(rows)
        findings = measure(self._answer, rows, count, ROUNDING_ULPS)
        if not findings.deterministic:
            return Checked("off", findings.problem)
        if not findings.independent:
            return Checked("requests", describe(findings, count))
        outputs = self._answer(rows)
        if all(_is_constant(array) for array in outputs.values()):
            return Checked(
                "requests",
                f"{count} rows gave one and the same answer, which shows nothing; add a warm-up "
                "file, or set a mode in the cache configuration",
            )
        encode_bodies(outputs)
        difference = same_answers(outputs, self._answer(self._bare(rows)))
        if difference is not None:
            return Checked("requests", f"something outside of the row's key changed {difference}")
        return Checked("rows", describe(findings, count))

    def _find_rows(self, requests: Sequence[Tensors], words: Sequence[bytes]) -> list[SampleRow]:
        """Distinct rows that the model answers, in batches of any of them."""
        most = _EFFORTS[0][0]
        seen = distinct((row for inputs in requests for row in split(inputs)), most)
        rows = self._answerable(seen)
        for size in FREE_SIZES:
            if len(rows) >= 2:
                break
            made = made_up(self._signature, self._spec, most, words, size)
            rows = self._answerable(distinct(made, most))
        return rows

    def _answerable(self, rows: Sequence[SampleRow]) -> list[SampleRow]:
        if len(rows) < 2 or self._answers(rows):
            return list(rows)
        return [row for row in rows if self._answers([row])]

    def _answers(self, rows: Sequence[SampleRow]) -> bool:
        try:
            self._answer(rows)
        except ServingError as error:
            self._refusal = error.message
            return False
        return True

    def _affordable(self, rows: Sequence[SampleRow]) -> Sequence[SampleRow]:
        begun = time.monotonic()
        self._answer(rows[:2])
        cost = time.monotonic() - begun
        for count, calls in _EFFORTS:
            if cost * calls <= _BUDGET_SECONDS:
                return rows[:count]
        return rows[: _EFFORTS[-1][0]]

    def _answer(self, rows: Sequence[SampleRow]) -> dict[str, Array]:
        """Answers one batch.

        Raises:
            ServingError: the model refuses it.
        """
        if time.monotonic() > self._end:
            raise _TooSlow
        outputs = tuple(self._signature.outputs)
        running = self._model.run(self._signature.name, join(rows), outputs)
        future = asyncio.run_coroutine_threadsafe(running, self._loop)
        answer = future.result()
        for name, array in answer.items():
            if not array.ndim or len(array) != len(rows):
                raise _NotByRow(
                    f"output {name!r} has shape {list(array.shape)} for {len(rows)} rows"
                )
        return answer

    def _bare(self, rows: Sequence[SampleRow]) -> Sequence[SampleRow]:
        """The rows again, with nothing in them but what is in their canonical form.

        Raises:
            DataError: a row has none.
        """
        spec = self._spec
        if spec.form == "tensors":
            for cells in rows_of_tensors(spec, join(rows)):
                encode_row(cells)
            return rows
        reader = ExampleRows(spec)
        bare = []
        for row in rows:
            found = reader.row(row[spec.input_name].item())
            encode_row(found)
            bare.append({spec.input_name: scalar(example_of_row(found, spec))})
        return bare


def _nothing_answered(refusal: str) -> str:
    words = " ".join(refusal.split())[:200]
    why = f"the model refuses what was tried ({words})" if words else "nothing is known to try"
    return f"{why}; add a warm-up file, or set a mode in the cache configuration"


def _is_constant(array: Array) -> bool:
    flat = array.reshape(len(array), -1)
    return all(_same(flat[0], row) for row in flat[1:])


def _same(first: Array, second: Array) -> bool:
    if first.dtype == object:
        return bool(np.array_equal(first, second))
    return first.tobytes() == second.tobytes()


def _cell_bytes(array: Array) -> bytes:
    return cell(array, STRING if array.dtype == object else array.dtype.name).data
