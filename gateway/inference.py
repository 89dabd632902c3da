"""From a request's tensors to its answer: by the cache, by the model, by both. asyncio.

    begin -> now (every row is in a local tier) -> finish (the rest is computed)

A wire service makes an `Attempt`, answers at once if `now` can, and otherwise awaits `finish` in a
task. `finish` raises `RouteMoved` if what the request named points at another version meanwhile:
the service begins again, from the bytes of the request, for the new version may read them
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tfx_encore.cache.answers import encode_answer, encode_each
from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.row_request import Answer, Computed, RowRequest
from tfx_encore.cache.rows import STRING, cell, encode_row
from tfx_encore.cache.tf_predict import rows_of_tensors
from tfx_encore.gateway.errors import Code, ServingError, invalid
from tfx_encore.gateway.prediction import Freshness, Prediction, raise_rejection, rejection
from tfx_encore.gateway.routing import Pointer
from tfx_encore.gateway.servable import Plan, Servable
from tfx_encore.gateway.signature import Array, Signature, Tensors
from tfx_encore.schemas.errors import DataError

MAX_MOVES = 16
"""How often a request is begun again because of switches before it is given up."""


MAX_ROWS = 65_536
"""A request of more rows is computed without the cache: a short message may stand for many rows."""


class RowPlace(NamedTuple):
    """What a row's request carries through the cache.

    Attributes:
        at: its place among the request's rows.
        maker: made its key, and makes that of its transformed row.
    """

    at: int
    maker: KeyMaker


class RouteMoved(Exception):  # noqa: N818 - not an error: the request is begun again
    """What the request named points at another version now."""


class Attempt:
    """One request on its way to its answer, at one version.

    Args:
        pointer: what the request named.
        signature: name of the signature; empty for the default one.
        output_filter: outputs asked for; empty for all.
        tensors: makes every input of the signature, when they are needed.
        rows: the canonical rows, if the caller has made them; only where the plan says `rows`.

    Raises:
        ServingError: no such signature or output; inputs missing or unknown.
    """

    def __init__(
        self,
        pointer: Pointer,
        signature: str,
        output_filter: Sequence[str],
        tensors: Callable[[], Tensors],
        rows: Sequence[bytes] | None = None,
    ) -> None:
        servable = pointer.target
        if servable is None:
            raise RouteMoved
        self.pointer = pointer
        self.servable = servable
        self.signature = servable.signature(signature)
        self.output_filter = tuple(output_filter)
        self._outputs = check_outputs(self.signature, self.output_filter)
        self._tensors = tensors
        self._plan = servable.plan(self.signature.name)
        self._requests = self._row_requests(rows)
        self._changes = servable.cache.state.changes if servable.cache else 0

    @property
    def plan(self) -> Plan:
        """How the answer is cached; `off` if this request's inputs have no canonical form."""
        return self._plan

    def now(self) -> Prediction | None:
        """Returns the answer if the local tiers have every row of it.

        Raises:
            ServingError: the model is known to refuse a row.
        """
        cache = self.servable.cache
        if self._plan.mode == "off" or cache is None:
            return None
        found = cache.find_all(self._requests)
        return None if found is None else self._prediction(found)

    async def finish(self) -> Prediction:
        """Returns the answer, computing what is missing.

        Raises:
            ServingError: the model refuses the inputs, or cannot answer now.
            RouteMoved: the request is another version's now.
        """
        servable, cache = self.servable, self.servable.cache
        servable.in_flight += 1
        try:
            if self._plan.mode == "off" or cache is None:
                arrays = await servable.alone.run(
                    self.signature.name, self._tensors(), self._outputs
                )
                self._check_route()
                return Prediction(
                    servable, self.signature, self.output_filter, "off", arrays=arrays
                )
            answers = await cache.get_or_compute(self._requests, self._compute)
        except ServingError:
            self._check_route()  # a version that is being let go of refuses; another answers
            raise
        finally:
            servable.in_flight -= 1
        self._check_route()
        return self._prediction(answers)

    def _check_route(self) -> None:
        self.pointer.sync()
        if self.pointer.target is not self.servable:
            raise RouteMoved

    def _row_requests(self, rows: Sequence[bytes] | None) -> list[RowRequest]:
        """The rows, or the whole request as one; none if it cannot be cached."""
        servable, signature = self.servable, self.signature
        if self._plan.mode == "off":
            check_inputs(signature, self._tensors())
            return []
        try:
            if self._plan.mode == "requests":
                rows = [_whole(signature, self._tensors())]
            elif rows is None:
                rows = [] if self._is_large() else _rows(servable, self._plan, self._tensors())
        except DataError:
            # The model says better what is wrong with it, and may even take it.
            self._plan = Plan("off")
            return []
        if not 0 < len(rows) <= MAX_ROWS:
            self._plan = Plan("off")
            return []
        maker = servable.maker(signature.name, self.output_filter)
        fingerprint, name = servable.fingerprint, signature.name
        return [
            RowRequest(maker.key(row), row, fingerprint, name, RowPlace(at, maker))
            for at, row in enumerate(rows)
        ]

    def _is_large(self) -> bool:
        """True for more rows than are looked up one by one."""
        return any(len(array) > MAX_ROWS for array in self._tensors().values() if array.ndim)

    def _prediction(self, answers: Sequence[Answer]) -> Prediction:
        raise_rejection(answers)
        cache = self.servable.cache
        freshness = None
        if cache is not None and answers and cache.state.changes == self._changes:
            ends = [a.entry.expires_at for a in answers if a.entry.expires_at]
            window = cache.policy.refresh_window(0.0)
            end = max(min(ends) - window, 0.001) if ends else 0.0
            freshness = Freshness(self.pointer, self.servable, self._changes, end)
        return Prediction(
            self.servable,
            self.signature,
            self.output_filter,
            self._plan.mode,
            answers=answers,
            freshness=freshness,
        )

    # --- computing -------------------------------------------------------------------------------

    async def _compute(self, requests: Sequence[RowRequest]) -> list[Computed]:
        """Computes rows by the model in one batch."""
        if self._plan.mode == "requests":
            return [await self._compute_whole()]
        return await self._compute_rows(requests)

    async def _compute_whole(self) -> Computed:
        servable = self.servable
        try:
            arrays = await servable.alone.run(self.signature.name, self._tensors(), self._outputs)
        except ServingError as error:
            return _refusal(error, servable)
        row = {name: cell(array, _dtype(array)) for name, array in arrays.items()}
        return Computed(encode_answer(row), servable.fingerprint)

    async def _compute_rows(self, requests: Sequence[RowRequest]) -> list[Computed]:
        servable = self.servable
        inputs = _take(self._tensors(), [request.payload.at for request in requests])
        try:
            arrays = await servable.merged.run(self.signature.name, inputs, self._outputs)
        except ServingError as error:
            if len(requests) == 1 or error.code != Code.INVALID_ARGUMENT:
                return [_refusal(error, servable)]
            # Others may wait for the rows that are right: find those that are wrong.
            half = len(requests) // 2
            return [
                *await self._compute_rows(requests[:half]),
                *await self._compute_rows(requests[half:]),
            ]
        try:
            answers = encode_each(arrays)
        except DataError as error:
            raise ServingError(Code.INTERNAL, str(error)) from error
        return [Computed(answer, servable.fingerprint) for answer in answers]


def check_outputs(signature: Signature, output_filter: Sequence[str]) -> tuple[str, ...]:
    """Returns the outputs to compute.

    Raises:
        ServingError: INVALID_ARGUMENT, unknown or named twice
            (tensorflow_serving/servables/tensorflow/predict_util.cc).
    """
    if not output_filter:
        return tuple(signature.outputs)
    for place, name in enumerate(output_filter):
        if name not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} Outputs expected to be in "
                f"the set {{{','.join(sorted(signature.outputs))}}}."
            )
        if name in output_filter[:place]:
            raise invalid(f"duplicate output tensor alias: {name}")
    return tuple(output_filter)


def check_inputs(signature: Signature, inputs: Tensors) -> None:
    """Checks that exactly the signature's inputs are given.

    Raises:
        ServingError: INVALID_ARGUMENT (the same file).
    """
    sent, wanted = set(inputs), set(signature.inputs)
    if len(sent) != len(wanted):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(wanted)} "
            f"len({{{','.join(sorted(sent))}}}) != len({{{','.join(sorted(wanted))}}}). "
            f"Sent extra: {{{','.join(sorted(sent - wanted))}}}. "
            f"Missing but required: {{{','.join(sorted(wanted - sent))}}}."
        )
    for name in sorted(sent - wanted):
        raise invalid(
            f"input tensor alias not found in signature: {name}. Inputs expected to be in the set "
            f"{{{','.join(sorted(wanted))}}}."
        )


def _take(inputs: Tensors, places: Sequence[int]) -> Tensors:
    """Returns some rows of a request's tensors."""
    if all(len(array) == len(places) for array in inputs.values()):
        return inputs  # each row once, in order: all of them
    return {name: array[list(places)] for name, array in inputs.items()}


def _whole(signature: Signature, inputs: Tensors) -> bytes:
    check_inputs(signature, inputs)
    return encode_row({name: cell(array, _dtype(array)) for name, array in inputs.items()})


def _rows(servable: Servable, plan: Plan, inputs: Tensors) -> list[bytes]:
    spec = plan.spec
    if spec is None:
        raise DataError("cached by rows, but nothing says how they are made")
    check_inputs(servable.signature(spec.signature), inputs)
    if spec.form == "tensors":
        return [encode_row(row) for row in rows_of_tensors(spec, inputs)]
    examples = inputs[spec.input_name]
    if examples.dtype != object or examples.ndim != 1:
        raise DataError(f"{spec.input_name!r} is not a vector of Examples")
    reader = servable.reader(spec)
    return [encode_row(reader.row(example)) for example in examples]


def _dtype(array: Array) -> str:
    return STRING if array.dtype == object else str(array.dtype.name)


def _refusal(error: ServingError, servable: Servable) -> Computed:
    """What is kept of an error: a refusal if the model would refuse each time.

    Raises:
        ServingError: it would not; nothing is kept.
    """
    if error.code != Code.INVALID_ARGUMENT:
        raise error
    return Computed(rejection(error), servable.fingerprint, "rejection")


def is_fresh(freshness: Freshness, now: float) -> bool:
    """True if an answer may be repeated for an equal request.

    Args:
        freshness: of the answer.
        now: seconds since 1970.
    """
    servable = freshness.servable
    cache = servable.cache
    return (
        freshness.pointer.target is servable
        and cache is not None
        and cache.state.changes == freshness.changes
        and (not freshness.expires_at or now < freshness.expires_at)
        and cache.state.is_current()
    )
