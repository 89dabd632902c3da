"""Does a row's answer depend on anything but the row? Measured, not assumed. No IO here.

Two questions are kept apart (docs/adr/0003-what-row-independent-means.md). At a fixed size of the
batch and place in it, the other rows must not change a single bit. At another size or place,
floating-point numbers may move by rounding, as kernels add in another order: the live model does
that too, in whichever batch it meets the row. That movement is measured and bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Outputs = Mapping[str, np.ndarray[Any, Any]]
Answer = Callable[[Sequence[Any]], Outputs]


@dataclass(frozen=True)
class Findings:
    """What was measured.

    Attributes:
        deterministic: the same batches gave the same bytes each time.
        independent: other rows changed nothing, and the spread is within its bound.
        ulps: largest movement with size and place, in units in the last place of the largest
            magnitude that the output took; infinite where shapes or other bits changed.
        difference: the same movement as a plain difference.
        problem: the first counter-example, in one line; empty if there is none.
    """

    deterministic: bool
    independent: bool
    ulps: float
    difference: float
    problem: str = ""


def measure(answer: Answer, rows: Sequence[Any], batch_size: int, rounding_ulps: float) -> Findings:
    """Computes the rows alone, repeatedly, in different company, order and sizes of batch.

    Args:
        answer: computes one batch.
        rows: distinct rows, at least 2.
        batch_size: the largest batch, the one whose answers are cached.
        rounding_ulps: bound on the movement with size and place.
    """
    reference = _in_batches(answer, rows, batch_size)
    again = _in_batches(answer, rows, batch_size)
    differing = _first_difference(reference, again)
    if differing is not None:
        problem = f"computing the same batch again changed {differing}"
        return Findings(False, False, float("inf"), float("inf"), problem)
    problem = _company(answer, rows, batch_size)
    ulps, difference, where = _spread(answer, rows, batch_size, reference)
    if not problem and ulps > rounding_ulps:
        problem = f"{where} moved by {ulps:.3g} ulps ({difference:.3g}) with the batch's size"
    return Findings(True, not problem, ulps, difference, problem)


def describe(findings: Findings, rows: int) -> str:
    """Returns the certificate's line for a person."""
    if findings.problem:
        return f"not to be cached by row: {findings.problem}"
    if findings.ulps == 0:
        return f"{rows} rows: the same bytes alone, repeated, in any batch, order and size"
    return (
        f"{rows} rows: the same bytes whatever else is in the batch; with the batch's size or the "
        f"place in it answers round differently by at most {findings.ulps:.3g} ulps "
        f"({findings.difference:.3g}), as they do without a cache"
    )


def same_answers(first: Outputs, second: Outputs) -> str | None:
    """Returns the first row and output whose bytes differ, or None."""
    return _first_difference(first, second)


def _in_batches(answer: Answer, rows: Sequence[Any], size: int) -> Outputs:
    """Answers of all rows, computed in full batches of `size`."""
    parts = []
    for start in range(0, len(rows), size):
        batch = [rows[(start + at) % len(rows)] for at in range(size)]
        kept = min(size, len(rows) - start)
        parts.append({name: array[:kept] for name, array in answer(batch).items()})
    return _joined(parts)


def _joined(parts: Sequence[Outputs]) -> Outputs:
    """Joins batches; outputs whose rows changed shape become rows of raw bytes."""
    joined = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        if len({array.shape[1:] for array in arrays}) == 1:
            joined[name] = np.concatenate(arrays)
        else:
            items = [f"{row.shape}".encode() + row.tobytes() for a in arrays for row in a]
            joined[name] = np.array(items, dtype=object)
    return joined


def _company(answer: Answer, rows: Sequence[Any], batch_size: int) -> str:
    """Changes the rows beside a row, at the same size and place; returns the first difference."""
    rng = np.random.default_rng(0)
    for size in sorted({min(size, batch_size) for size in (2, 8, 32, batch_size)} - {1}):
        for start in range(0, min(len(rows), 4 * size), size):
            batch = [rows[(start + at) % len(rows)] for at in range(size)]
            stays = np.arange(size) % 2 == int(rng.integers(2))
            one = rows[int(rng.integers(len(rows)))]
            for change in ("other rows", "one row repeated"):
                other = [
                    row
                    if stays[at]
                    else (one if change != "other rows" else rows[rng.integers(len(rows))])
                    for at, row in enumerate(batch)
                ]
                differing = _first_difference(answer(batch), answer(other), stays)
                if differing is not None:
                    return f"{change} beside it in a batch of {size} changed {differing}"
    return ""


def _spread(
    answer: Answer, rows: Sequence[Any], batch_size: int, reference: Outputs
) -> tuple[float, float, str]:
    """Largest movement over sizes and orders: (ulps, difference, where)."""
    worst = (0.0, 0.0, "")
    rng = np.random.default_rng(1)
    sizes = {1, 2, 3, 8, 17, 32, batch_size // 2, batch_size - 1, batch_size}
    for size in sorted(size for size in sizes if 1 <= size <= batch_size):
        order = rng.permutation(len(rows))
        shuffled = _in_batches(answer, [rows[at] for at in order], size)
        for name, array in shuffled.items():
            ulps, difference = movement(reference[name][order], array)
            if ulps > worst[0]:
                worst = (ulps, difference, f"output {name!r} in batches of {size}")
    return worst


def movement(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Returns the largest difference of two arrays.

    In units in the last place of the largest magnitude in the first, and as a plain difference;
    both infinite if shapes, dtypes, or values that are no numbers differ.
    """
    if first.shape != second.shape or first.dtype != second.dtype:
        return float("inf"), float("inf")
    if first.dtype.kind not in "fc":
        same = bool(np.array_equal(first, second))
        return (0.0, 0.0) if same else (float("inf"), float("inf"))
    fine = np.isfinite(first) & np.isfinite(second)
    if not np.array_equal(first[~fine], second[~fine], equal_nan=True):
        return float("inf"), float("inf")
    if not fine.any():
        return 0.0, 0.0
    wide = np.complex128 if first.dtype.kind == "c" else np.float64
    difference = float(np.abs(first[fine].astype(wide) - second[fine].astype(wide)).max())
    scale = float(np.abs(first[fine]).max())
    unit = float(np.finfo(first.dtype).eps) * scale or float(np.finfo(first.dtype).tiny)
    return difference / unit, difference


def _first_difference(
    first: Outputs, second: Outputs, rows: np.ndarray[Any, Any] | None = None
) -> str | None:
    """Names the first output and row whose bytes differ, among the rows given by a mask."""
    for name in sorted(first):
        one, two = first[name], second[name]
        if one.shape != two.shape:
            return f"the shape of output {name!r} from {one.shape} to {two.shape}"
        for at in range(len(one)) if rows is None else np.flatnonzero(rows):
            if not _same_bytes(one[at], two[at]):
                return f"output {name!r} of row {at} from {_brief(one[at])} to {_brief(two[at])}"
    return None


def _same_bytes(one: Any, two: Any) -> bool:
    first, second = np.asarray(one), np.asarray(two)
    if first.dtype.kind == "O":
        return bool(np.array_equal(first, second))
    return first.tobytes() == second.tobytes()


def _brief(value: Any) -> str:
    return str(np.asarray(value).ravel()[:3].tolist())
