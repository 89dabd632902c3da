"""How requests are merged into batches, in the words of TensorFlow Serving. No IO here.

The parameters and their defaults are those of BatchingParameters
(tensorflow_serving/servables/tensorflow/session_bundle_config.proto) and of the scheduler behind it
(tensorflow/core/kernels/batching_util/shared_batch_scheduler.h, QueueOptions).
`batching_parameters_file` reads them from a file.
"""

from __future__ import annotations

import os
from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field, model_validator

_MOST = 2**31 - 1


def processors() -> int:
    """Number of processors that this process may use, at least 1."""
    return max(len(os.sched_getaffinity(0)), 1)


class BatchingParameters(BaseModel):
    """What `--batching_parameters_file` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch_size: int = Field(
        default=1000, ge=1, le=_MOST, description="Rows of one request, and of a batch, at most."
    )
    batch_timeout_micros: int = Field(
        default=0,
        ge=0,
        le=3_600_000_000,
        description="How long a batch that is not full waits for more, in microseconds; 0 takes "
        "whatever is there as soon as a slot is free.",
    )
    max_enqueued_batches: int = Field(
        default=10,
        ge=0,
        le=_MOST,
        description="Batches that wait for a slot at most, for each signature; beyond it requests "
        "are refused with UNAVAILABLE. 0 counts as 1.",
    )
    num_batch_threads: int = Field(
        default_factory=processors,
        ge=1,
        le=4096,
        description="Batches that the model computes at a time; by default the processors.",
    )
    allowed_batch_sizes: tuple[int, ...] = Field(
        default=(),
        description="Sizes that a batch is padded up to, increasing; the last is max_batch_size. "
        "Empty for any size.",
    )
    pad_variable_length_inputs: bool = Field(
        default=False,
        description="Merge inputs of different shapes too: each is padded, by its first element, "
        "to the largest of the batch.",
    )
    enable_large_batch_splitting: bool = Field(
        default=False,
        description="Cut a request that does not fit into the open batch over several batches.",
    )
    max_execution_batch_size: int | None = Field(
        default=None,
        ge=1,
        le=_MOST,
        description="Rows of a batch at most where requests are cut; by default max_batch_size.",
    )

    @property
    def largest_batch(self) -> int:
        """Rows of a batch at most; `max_batch_size` bounds a request."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size

    @property
    def most_waiting(self) -> int:
        """Batches of one signature that wait at most."""
        return max(self.max_enqueued_batches, 1)

    @model_validator(mode="after")
    def _check(self) -> BatchingParameters:
        sizes = self.allowed_batch_sizes
        if any(second <= first for first, second in pairwise(sizes)) or (sizes and sizes[0] < 1):
            raise ValueError(
                f"allowed_batch_sizes entries must be positive and monotonically increasing; "
                f"they are {', '.join(map(str, sizes))}"
            )
        if sizes and sizes[-1] != self.max_batch_size:
            raise ValueError(
                f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                f"{sizes[-1]}; expected {self.max_batch_size}"
            )
        if self.largest_batch > self.max_batch_size:
            raise ValueError(
                f"max_execution_batch_size {self.largest_batch} is above max_batch_size "
                f"{self.max_batch_size}; it must be at most that"
            )
        if self.enable_large_batch_splitting and self.max_enqueued_batches == 0:
            raise ValueError("max_enqueued_batches must be positive; was 0")
        return self


def unbounded(largest_batch: int = 1024, waiting_batches: int = 10_000) -> BatchingParameters:
    """Returns parameters for a server without `--enable_batching`.

    TensorFlow Serving then takes requests of any size, so misses are merged and cut into batches,
    but no request is refused for its size.

    Args:
        largest_batch: rows of one call of the model at most.
        waiting_batches: batches that wait at most; a server that far behind refuses.
    """
    return BatchingParameters(
        max_batch_size=_MOST,
        max_execution_batch_size=largest_batch,
        enable_large_batch_splitting=True,
        max_enqueued_batches=waiting_batches,
    )
