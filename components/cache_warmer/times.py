"""The time before which a share of the rows lies, found on a sample that is always the same one.

Each row draws a number from its place in the data; the rows with the smallest are the sample. The
smallest of a union lie in the union of the smallest, so neither the order of work nor who does it
shows. All rows are in it while there are few.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt

SAMPLED = 1 << 16  # a share of 0.8 is met to 0.0016 (standard deviation)
_FILE_BITS = 40

Drawn = tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64]]
"""Numbers drawn, and the times of the rows that drew them."""


def drawn(file: int, times: Iterable[float]) -> Drawn:
    """The sample of one file.

    Args:
        file: its number.
        times: of its rows, in order.
    """
    values = np.fromiter(times, np.float64)
    places = (np.uint64(file) << np.uint64(_FILE_BITS)) + np.arange(len(values), dtype=np.uint64)
    return _smallest([(_mixed(places), values)])


class Sample(beam.CombineFn):
    """Samples -> one sample; its times in order come out."""

    def create_accumulator(self) -> list[Drawn]:
        """Nothing yet."""
        return []

    def add_input(self, accumulator: list[Drawn], element: Drawn) -> list[Drawn]:
        """Adds a sample."""
        return [_smallest([*accumulator, element])]

    def merge_accumulators(self, accumulators: Iterable[list[Drawn]]) -> list[Drawn]:
        """Merges samples."""
        merged: list[Drawn] = []
        for accumulator in accumulators:
            merged = [_smallest([*merged, *accumulator])] if merged or accumulator else []
        return merged

    def extract_output(self, accumulator: list[Drawn]) -> npt.NDArray[np.float64]:
        """The times, rising."""
        return np.sort(accumulator[0][1]) if accumulator else np.zeros(0)


def time_at(times: npt.NDArray[np.float64], share: float) -> float | None:
    """The time at a share of the sample; None of an empty one."""
    return float(times[round(share * (len(times) - 1))]) if len(times) else None


def _smallest(parts: list[Drawn]) -> Drawn:
    numbers = np.concatenate([part[0] for part in parts])
    times = np.concatenate([part[1] for part in parts])
    if len(numbers) > SAMPLED:
        chosen = np.argpartition(numbers, SAMPLED)[:SAMPLED]
        numbers, times = numbers[chosen], times[chosen]
    return numbers, times


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea, Flood 2014): one to one, so that no two rows draw alike."""
    mixed: Any = values * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), np.uint64)
