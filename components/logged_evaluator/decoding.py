"""Examples as bytes in, batches of logged rows out."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tfx_bsl.coders import example_coder

from tfx_encore.components.logged_evaluator.rows import Rows, rows_of
from tfx_encore.schemas.errors import DataError

BATCH = 16_384


@functools.lru_cache(maxsize=1)
def _decoder() -> Any:
    return example_coder.ExamplesToRecordBatchDecoder()


def decode(records: Sequence[bytes], fingerprints: Mapping[int, str]) -> Rows:
    """Reads serialised Examples as logged rows; see `rows_of`."""
    return rows_of(_decoder().DecodeBatch(list(records)), fingerprints)


def read_batches(file: str) -> Iterator[list[bytes]]:
    """The records of a TFRecord file, `BATCH` at a time; `.gz` is read as gzip.

    Raises:
        DataError: the file cannot be read.
    """
    compression = "GZIP" if file.endswith(".gz") else ""
    try:
        batches = tf.data.TFRecordDataset(file, compression).batch(BATCH)
        for batch in batches.as_numpy_iterator():
            yield batch.tolist()
    except tf.errors.OpError as error:
        raise DataError(f"{file} cannot be read: {error.message}") from error
