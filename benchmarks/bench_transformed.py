"""What transformed keys gain for the taxi model under GPS jitter, and what they cost."""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import numpy as np
from taxi_release import releases

from tfx_encore.cache.bucket_rows import BucketRows
from tfx_encore.cache.rows import cell, decode_row, encode_row, to_array
from tfx_encore.cache.saved_model_buckets import bucket_rows
from tfx_encore.cache.snapshot import read_entries

METRES = (0, 1, 10, 50, 200)
_METRES_A_DEGREE = 111_320.0  # of latitude; of longitude times the cosine of the latitude
_PLACES = ("pickup_latitude", "pickup_longitude")


def run(quick: bool) -> dict[str, Any]:
    """Replays the same Zipf traffic at several strengths of jitter."""
    requests = 5_000 if quick else 50_000
    home = releases() / "taxi"
    live = json.loads((home / "labels.json").read_text())["labels"]["stable"]
    made = bucket_rows(str(home / str(live)), "serving_default")
    assert made is not None
    snapshot = str(home / f"{live}.evidence" / "snapshot")
    rows = [decode_row(entry.row) for entry in read_entries(snapshot, open)]
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, len(rows) + 1) ** 0.9
    asked = rng.choice(len(rows), size=requests, p=chances / chances.sum())
    table = [_replay(rows, asked, metres, made) for metres in METRES]
    return {
        "title": "Transformed keys under GPS jitter",
        "rows": table,
        "notes": [
            f"{requests:,} requests drawn by Zipf 0.9 from the {len(rows):,} rows that CacheWarmer "
            "chose for the taxi model of `make run`, into an empty cache without eviction; before "
            "each request normal noise is added to the pickup's latitude and longitude. The "
            "repeats and the noise are simulated, the rows are real.",
            f"Read through buckets only, as the graph shows: {', '.join(made.features)}.",
            f"Making a transformed row takes {_cost(rows, made):.1f} us.",
        ],
    }


def _replay(rows: list[Any], asked: Any, metres: float, made: BucketRows) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    raw: set[bytes] = set()
    transformed: set[bytes] = set()
    hits = [0, 0]
    for at in asked:
        row = encode_row(_moved(rows[at], metres, rng))
        bucketed = made.row(row) or row
        hits[0] += row in raw
        hits[1] += row in raw or bucketed in transformed
        raw.add(row)
        transformed.add(bucketed)
    return {
        "jitter, metres (standard deviation)": metres,
        "hit rate by raw key": f"{hits[0] / len(asked):.1%}",
        "by raw or transformed key": f"{hits[1] / len(asked):.1%}",
    }


def _moved(row: Any, metres: float, rng: Any) -> Any:
    if not metres:
        return row
    moved = dict(row)
    for name in _PLACES:
        degrees = to_array(row[name]).astype(np.float64)
        scale = _METRES_A_DEGREE * (1.0 if name == _PLACES[0] else np.cos(np.radians(41.9)))
        noise = rng.normal(size=degrees.shape) * metres / scale
        moved[name] = cell((degrees + noise).astype(np.float32))
    return moved


def _cost(rows: list[Any], made: BucketRows) -> float:
    encoded = [encode_row(row) for row in rows[:2000]]
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        for row in encoded:
            made.row(row)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) / len(encoded) * 1e6


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=1))
