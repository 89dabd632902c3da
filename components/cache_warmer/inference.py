"""Answers of the candidate model, in batches that are always full."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf

from tfx_encore.cache.answers import encode_bodies
from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.cache.rows import decode_row
from tfx_encore.cache.snapshot_block import Block, block_of
from tfx_encore.cache.tf_predict import input_tensors
from tfx_encore.components.cache_warmer.head_file import Batch, read_batches
from tfx_encore.components.shared_files import whole_file, write_json
from tfx_encore.schemas.errors import DataError, ModelError

# The model runs outside of Python's lock: while one batch is computed another is read or encoded.
_THREADS = 2

Outputs = Mapping[str, np.ndarray[Any, Any]]
Answer = Callable[[Sequence[Any]], Outputs]
"""Rows of one batch (Examples as bytes, or canonical rows) -> outputs of shape [rows, ...]."""


@lru_cache(maxsize=1)
def load_model(path: str) -> Any:
    """Loads a SavedModel once for all steps of this process.

    Raises:
        ModelError: it cannot be loaded.
    """
    try:
        return tf.saved_model.load(path)
    except Exception as error:
        raise ModelError(f"{path}: the model cannot be loaded: {error}") from error


class Session:
    """One signature of a loaded model.

    Args:
        path: of the SavedModel.
        spec: the signature and its rows.
        output_filter: outputs to return; empty for all.
    """

    def __init__(self, path: str, spec: SignatureSpec, output_filter: Sequence[str] = ()) -> None:
        self._model = load_model(path)  # its variables live as long as this
        self._call = self._model.signatures[spec.signature]
        self._spec = spec
        self._filter = frozenset(output_filter)

    def answer(self, rows: Sequence[Any]) -> Outputs:
        """Answers one batch, exactly as given.

        Args:
            rows: serialised Examples; for a signature of form `tensors`, canonical rows as bytes.

        Raises:
            DataError: the model refuses the batch, or does not answer row by row.
        """
        try:
            outputs = self._call(**self._inputs(rows))
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise DataError(f"the model refuses a row: {str(error).splitlines()[0]}") from error
        found = {
            name: tensor.numpy()
            for name, tensor in outputs.items()
            if not self._filter or name in self._filter
        }
        for name, array in found.items():
            if not array.ndim or array.shape[0] != len(rows):
                raise DataError(
                    f"output {name!r} has shape {array.shape} for {len(rows)} rows; rows cannot be "
                    "told apart in it"
                )
        return found

    def _inputs(self, rows: Sequence[Any]) -> dict[str, Any]:
        if self._spec.form != "tensors":
            return {self._spec.input_name: tf.constant(rows, tf.string)}
        arrays = input_tensors(self._spec, [decode_row(row) for row in rows])
        return {name: tf.constant(array) for name, array in arrays.items()}


def padded(rows: Sequence[Any], size: int) -> Sequence[Any]:
    """Repeats the rows until they fill a batch, as the size can move the last bits of an answer."""
    if len(rows) >= size:
        return rows
    return [rows[at % len(rows)] for at in range(size)]


def is_nan(outputs: Outputs, rows: int) -> np.ndarray[Any, Any]:
    """For each row whether any number of its answer is NaN."""
    found = np.zeros(rows, dtype=bool)
    for array in outputs.values():
        if array.dtype.kind in "fc" and array.size:
            found |= np.isnan(array[:rows]).reshape(rows, -1).any(axis=1)
    return found


@dataclass
class Told:
    """Rows left out: answered with NaN, refused by the model, and the first refusal's reason."""

    nan: int = 0
    refused: int = 0
    reason: str = ""

    def plus(self, other: Told) -> Told:
        """Returns the sums, and the first reason there is."""
        return Told(self.nan + other.nan, self.refused + other.refused, self.reason or other.reason)


class AnswerChunks(beam.DoFn):
    """Chunk of head rows -> a file of snapshot blocks and a small one that says what happened.

    Args:
        path: of the SavedModel.
        specs: signatures, in the order of their indices.
        output_filter: outputs to keep.
        batch_size: rows in each call.
    """

    def __init__(
        self,
        path: str,
        specs: Sequence[SignatureSpec],
        output_filter: Sequence[str],
        batch_size: int,
    ) -> None:
        self._args = (path, tuple(specs), tuple(output_filter))
        self._batch_size = batch_size
        self._sessions: list[Session] = []

    def setup(self) -> None:
        """Loads the model."""
        path, specs, output_filter = self._args
        self._sessions = [Session(path, spec, output_filter) for spec in specs]

    def process(self, chunk: str) -> None:
        """Writes `<chunk>.blocks` and `<chunk>.json`; doing it twice changes nothing."""
        told = Told()
        scratch = chunk.rpartition("/")[0]
        with (
            whole_file(f"{chunk}.blocks", scratch) as file,
            ThreadPoolExecutor(_THREADS) as pool,
        ):
            for frame, of_batch in pool.map(self._frame, read_batches(chunk)):
                file.write(frame)
                told = told.plus(of_batch)
        write_json(vars(told), f"{chunk}.json")

    def _frame(self, batch: Batch) -> tuple[bytes, Told]:
        told = Told()
        answer = self._sessions[batch.signature].answer
        return answer_block(answer, batch, self._batch_size, told).frame(), told


def answer_block(answer: Answer, batch: Batch, size: int, told: Told) -> Block:
    """Answers a batch; rows refused or answered with NaN are counted in `told` and left out."""
    inputs = batch.inputs()
    begun = time.perf_counter()
    try:
        outputs = answer(padded(inputs, size))
    except DataError as error:
        told.reason = told.reason or str(error)
        return _one_by_one(answer, batch, size, told)
    cost = (time.perf_counter() - begun) / size * 1e6
    block = _block(batch, {name: array[: len(batch)] for name, array in outputs.items()}, cost)
    bad = is_nan(outputs, len(batch))
    if not bad.any():
        return block
    told.nan += int(bad.sum())
    return block.take(np.flatnonzero(~bad).tolist())


def _one_by_one(answer: Answer, batch: Batch, size: int, told: Told) -> Block:
    """Answers what can be answered of a batch that the model refuses as a whole."""
    if len(batch) == 1:
        told.refused += 1
        return block_of([])
    parts = [answer_block(answer, single, size, told) for single in batch.singles()]
    return block_of(entry for part in parts for entry in part.entries())


def _block(batch: Batch, outputs: Outputs, cost: float) -> Block:
    answers, ends = encode_bodies(outputs)
    return Block(
        keys=batch.keys,
        seen=batch.seen,
        row_ends=batch.row_ends,
        answer_ends=ends,
        costs=np.full(len(batch), cost, dtype=np.float32),
        signatures=bytes([batch.signature]) * len(batch),
        rows=batch.rows,
        answers=answers,
    )


def check_answered(rows: int, told: Told, tolerated: float) -> str | None:
    """Decides whether the model may be trusted; returns a line to log if rows were left out.

    Raises:
        ModelError: more than the tolerated share of the rows was refused or answered with NaN.
    """
    left_out = told.nan + told.refused
    if not left_out:
        return None
    line = f"of {rows} frequent rows the model answered {told.nan} with NaN"
    line += f" and refused {told.refused}" + (f" ({told.reason})" if told.reason else "")
    if left_out / rows > tolerated:
        raise ModelError(
            f"{line}; look at the training run, or raise tolerate_unanswered_share "
            f"(now {tolerated:g})"
        )
    return line
