"""Quick ways of reading and counting say what the plain ways say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import logging_pb2

from tfx_encore.cache.tf_predict import tensor_values
from tfx_encore.components.request_log_example_gen.log_wire import split_metadata
from tfx_encore.components.request_log_example_gen.records import Answered
from tfx_encore.components.request_log_example_gen.tallies import Requests, Tally, add
from tfx_encore.components.request_log_example_gen.tensors import one_value
from tfx_encore.schemas.nights import PATHS

TEXTS = st.text(max_size=8)


@st.composite
def metadata(draw: st.DrawFn) -> bytes:
    """A LogMetadata, serialised; perhaps in two parts, perhaps with a byte changed or cut off."""
    message = logging_pb2.LogMetadata(saved_model_tags=draw(st.lists(TEXTS, max_size=4)))
    if draw(st.booleans()):
        message.model_spec.name = draw(TEXTS)
        message.model_spec.signature_name = draw(TEXTS)
        message.model_spec.version.value = draw(st.integers(-1, 2**40))
    if draw(st.booleans()):
        message.sampling_config.sampling_rate = draw(st.floats(0, 1, width=32))
    if draw(st.booleans()):
        message.timestamp_secs = draw(st.integers(-(2**63), 2**63 - 1))
    data = message.SerializeToString() * draw(st.integers(1, 2))
    if data and draw(st.booleans()):
        place = draw(st.integers(0, len(data) - 1))
        data = data[:place] + draw(st.binary(max_size=2)) + data[place + 1 :]
    return data


@given(metadata())
@example(b"\x08\x01")  # a number where a message belongs
@example(b"\x1a\x02\xc3\x28")  # a tag that is no text
def test_metadata_is_cut_as_protobuf_reads_it(data: bytes) -> None:
    parts = split_metadata(data)
    if parts is None:
        return  # protobuf is asked then
    try:
        rest = logging_pb2.LogMetadata.FromString(parts.rest)
        tags = [tag.decode() for tag in parts.tags]
    except (DecodeError, UnicodeDecodeError):
        with pytest.raises(DecodeError):
            logging_pb2.LogMetadata.FromString(data)
        return
    whole = logging_pb2.LogMetadata.FromString(data)
    assert tags == list(whole.saved_model_tags)
    assert parts.timestamp_secs == whole.timestamp_secs
    assert not rest.saved_model_tags
    assert (rest.model_spec, rest.sampling_config) == (whole.model_spec, whole.sampling_config)


def test_ordinary_metadata_is_cut_without_protobuf() -> None:
    message = logging_pb2.LogMetadata(saved_model_tags=["serve", "encore.us=7"], timestamp_secs=9)
    message.model_spec.name = "taxi"
    parts = split_metadata(message.SerializeToString())
    assert parts is not None
    assert (parts.tags, parts.timestamp_secs) == ([b"serve", b"encore.us=7"], 9)


ANSWERS = st.builds(
    Answered,
    rows=st.just([]),
    scores=st.just([]),
    paths=st.lists(st.sampled_from(PATHS), max_size=4),
    signature=st.just("serving_default"),
    version=st.integers(0, 2),
    fingerprint=st.sampled_from(["", "a", "b"]),
    time_us=st.integers(0, 10**15),
    request_id=TEXTS,
    cache=st.sampled_from(["", "hit", "partial", "miss"]),
    took_us=st.none() | st.integers(0, 10**6),
    rate=st.sampled_from([1.0, 0.5, 0.25]),
)


def counted(answers: list[Any]) -> Tally:
    tally: Tally = {}
    requests = Requests(tally)
    for answer in answers:
        requests.add(answer)
    requests.close()
    return tally


@given(st.lists(ANSWERS, max_size=8))
def test_requests_counted_together_are_the_sum_of_each_alone(answers: list[Any]) -> None:
    alone: Tally = {}
    for answer in answers:
        add(alone, counted([answer]))
    assert counted(answers) == alone


def test_what_a_request_adds_to_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfx_encore.components.request_log_example_gen.tallies._MAX_KINDS", 1)
    one = Answered([], [], ["hit", "hit", "miss"], "s", 3, "f", 50, "", "partial", 7, 0.5)
    tally = counted([one, one._replace(time_us=20), one._replace(version=4, took_us=None)])
    assert {key.replace("\x1f", "/"): number for key, number in tally.items()} == {
        "requests": 3,
        "rows": 9,
        "rows_by_version/3": 6,
        "rows_by_version/4": 3,
        "fingerprints/3/f": 6,
        "fingerprints/4/f": 3,
        "rows_by_path/hit": 6,
        "rows_by_path/miss": 3,
        "requests_by_cache/partial": 3,
        "latency_us/partial": 14,
        "weighted_requests/0.5": 3,
        "weighted_rows/0.5": 9,
        "weighted_hits/0.5": 6,
        "first_us": 20,
        "last_us": 50,
    }


@given(
    st.sampled_from([(1, "float_val"), (2, "double_val"), (3, "int_val"), (9, "int64_val")]),
    st.lists(st.integers(1, 2), max_size=3),
    st.lists(st.integers(-100, 100), max_size=2),
)
def test_one_value_is_the_only_one_of_the_tensor(
    kind: tuple[int, str], shape: list[int], values: list[int]
) -> None:
    proto = tensor_pb2.TensorProto(dtype=kind[0])
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, kind[1]).extend(values)
    found = one_value(proto)
    expected = len(values) == 1 and shape in ([1], [1, 1])
    assert (found is not None) == expected
    if expected:
        assert np.array_equal(tensor_values(proto).ravel(), [found])
