"""JSON on the request path: the quick way to rows, the full parser, answers, numbers."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import orjson

from tfx_encore.cache.answers import encode_answer
from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.rows import cell
from tfx_encore.gateway.rest.json_request import parse_predict
from tfx_encore.gateway.rest.json_response import AnswerWriter, predict_json
from tfx_encore.gateway.rest.json_rows import RowReader, parse_quick
from tfx_encore.gateway.signature import PREDICT, Signature, TensorSpec

VALUES = {"float32": -87.6543, "string": "Credit Card", "int64": 1234}


def microseconds(work: Callable[[], Any], calls: int, repeats: int) -> float:
    """Median over repeats of the time of one call."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for _ in range(calls):
            work()
        times.append((time.perf_counter() - begin) / calls * 1e6)
    return statistics.median(times)


def instance_of(count: int) -> tuple[SignatureSpec, Signature, bytes]:
    """A signature of so many scalar inputs, a third of each dtype, and a request of one row."""
    dtypes = list(VALUES)
    features = tuple(
        FeatureSpec(f"feature_{at:02d}_name", "tensor", dtypes[at % 3]) for at in range(count)
    )
    inputs = {feature.name: TensorSpec(feature.dtype, (-1,)) for feature in features}
    instance = {feature.name: VALUES[feature.dtype] for feature in features}
    spec = SignatureSpec("serving_default", "tensors", features=features)
    signature = Signature("serving_default", PREDICT, inputs, {})
    return spec, signature, json.dumps({"instances": [instance]}).encode()


def one_row(count: int, calls: int, repeats: int) -> list[dict[str, Any]]:
    spec, signature, body = instance_of(count)
    reader = RowReader(spec, signature)

    def quick() -> Any:
        found = parse_quick(body)
        return reader.rows(found.instances) if found else None

    work = {
        "orjson alone": lambda: orjson.loads(body),
        "body to canonical row, quick way": quick,
        "body to tensors, full parser": lambda: parse_predict(body, lambda _: signature.inputs),
    }
    return [
        {
            "what": f"{name}: {count} scalar features, {len(body)} bytes",
            "microseconds": round(microseconds(run, calls, repeats), 2),
        }
        for name, run in work.items()
    ]


def batches(calls: int, repeats: int) -> list[dict[str, Any]]:
    matrix = np.random.default_rng(1).random((1000, 20))
    columns = {f"f{at}": TensorSpec("float32", (-1,)) for at in range(20)}
    whole = {"x": TensorSpec("float32", (-1, 20))}
    lists = json.dumps({"instances": matrix.tolist()}).encode()
    named = [{f"f{at}": value for at, value in enumerate(row)} for row in matrix.tolist()]
    objects = json.dumps({"instances": named}).encode()
    outputs = {"y": matrix.astype(np.float32)}
    work = {
        "[1000, 20] floats as lists": lambda: parse_predict(lists, lambda _: whole),
        "[1000, 20] floats as objects": lambda: parse_predict(objects, lambda _: columns),
        "answer of [1000, 20] float32": lambda: predict_json(outputs, "row"),
    }
    return [
        {"what": name, "microseconds": round(microseconds(run, calls, repeats), 1)}
        for name, run in work.items()
    ]


def run(quick: bool) -> dict[str, Any]:
    """Measures one row, batches, and answers that are remembered."""
    calls, repeats = (500, 3) if quick else (10_000, 9)
    writer, answer = AnswerWriter(), encode_answer({"outputs": cell(np.float32([0.25]))})
    rows = [*one_row(6, calls, repeats), *one_row(17, calls, repeats)]
    for count in (1, 32):
        answers = [answer] * count
        spent = microseconds(partial(writer.write, answers), calls, repeats)
        rows.append(
            {"what": f"remembered answers to a body: {count}", "microseconds": round(spent, 2)}
        )
    rows += batches(2 if quick else 10, repeats)
    return {
        "title": "JSON",
        "rows": rows,
        "notes": ["Medians of one process on one core; a remembered answer is the usual hit."],
    }


if __name__ == "__main__":
    print(json.dumps(run(quick=True), indent=1))
