"""TensorFlow Serving's text files: batching parameters and monitoring."""

from __future__ import annotations

import subprocess
import sys

import pytest
from google.protobuf import descriptor_pool
from pydantic import ValidationError

from tfx_encore.gateway.batching_parameters import BatchingParameters, processors, unbounded
from tfx_encore.gateway.batching_parameters_file import read_batching_parameters
from tfx_encore.gateway.monitoring_config import metrics_path
from tfx_encore.schemas.errors import ConfigError


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "file.txt"
        path.write_text(text)
        return str(path)

    return write


def test_the_example_of_tensorflow_servings_guide_is_read(written):
    read = read_batching_parameters(
        written(
            "max_batch_size { value: 128 }\n"
            "batch_timeout_micros { value: 0 }\n"
            "max_enqueued_batches { value: 1000000 }\n"
            "num_batch_threads { value: 8 }\n"
        )
    )
    assert read == BatchingParameters(
        max_batch_size=128,
        batch_timeout_micros=0,
        max_enqueued_batches=1_000_000,
        num_batch_threads=8,
    )


def test_every_field_of_the_message_is_read(written):
    read = read_batching_parameters(
        written(
            "# a comment\n"
            "max_batch_size: { value: 128 } batch_timeout_micros { value: 5 },\n"
            "thread_pool_name { value: 'pool' };\n"
            "allowed_batch_sizes: 1 allowed_batch_sizes: [2, 128]\n"
            "pad_variable_length_inputs: true\n"
            "enable_large_batch_splitting { value: true }\n"
            "max_execution_batch_size { value: 64 }\n"
        )
    )
    assert read.allowed_batch_sizes == (1, 2, 128)
    assert read.pad_variable_length_inputs
    assert read.largest_batch == 64
    assert read.batch_timeout_micros == 5


def test_what_is_left_out_has_tensorflow_servings_defaults(written):
    read = read_batching_parameters(written(""))
    assert read.max_batch_size == 1000
    assert read.batch_timeout_micros == 0
    assert read.max_enqueued_batches == 10
    assert read.num_batch_threads == processors()
    assert not read.enable_large_batch_splitting
    assert read.largest_batch == 1000


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("\n\nmax_bath_size { value: 1 }", ":3:", 'no field named "max_bath_size"'),
        ("max_batch_size: 3", ":1:", 'Expected "{"'),
        ("max_batch_size { value: 0 }", ": max_batch_size:", "greater than or equal to 1; it is 0"),
        ("num_batch_threads { value: 0 }", ": num_batch_threads:", "it is 0"),
        ("batch_timeout_micros { value: -1 }", ": batch_timeout_micros:", "it is -1"),
        (
            "allowed_batch_sizes: [1, 2]",
            ":",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 2; "
            "expected 1000",
        ),
        ("allowed_batch_sizes: [2, 1, 1000]", ":", "monotonically increasing; they are 2, 1, 1000"),
        (
            "enable_large_batch_splitting { value: true } max_enqueued_batches { value: 0 }",
            ":",
            "max_enqueued_batches must be positive; was 0",
        ),
        (
            "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 1001 }",
            ":",
            "max_execution_batch_size 1001 is above max_batch_size 1000",
        ),
    ],
)
def test_a_file_that_cannot_be_is_refused_with_its_place(written, text, place, reason):
    path = written(text)
    with pytest.raises(ConfigError) as raised:
        read_batching_parameters(path)
    assert str(raised.value).startswith(f"{path}{place}")
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="nowhere: cannot be read"):
        read_batching_parameters(str(tmp_path / "nowhere"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="binary: cannot be read"):
        metrics_path(str(tmp_path / "binary"))


def test_parameters_without_bounds_take_any_request():
    parameters = unbounded(largest_batch=256)
    assert parameters.max_batch_size > 10**9
    assert parameters.largest_batch == 256


def test_parameters_are_frozen_and_know_no_other_names():
    with pytest.raises(ValidationError):
        BatchingParameters().max_batch_size = 3
    with pytest.raises(ValidationError):
        BatchingParameters(max_batchsize=3)


def test_metrics_have_no_further_path_unless_the_file_asks_for_one(written):
    assert metrics_path(written("")) is None
    assert metrics_path(written("prometheus_config { path: '/x' }")) is None


def test_the_monitoring_example_of_tensorflow_servings_guide_is_read(written):
    text = 'prometheus_config {\n  enable: true,\n  path: "/monitoring/prometheus/metrics"\n}\n'
    assert metrics_path(written(text)) == "/monitoring/prometheus/metrics"
    text = "prometheus_config { enable: true }"
    assert metrics_path(written(text)) == "/monitoring/prometheus/metrics"
    assert metrics_path(written("prometheus_config { enable: true path: '/m' }")) == "/m"


def test_a_path_that_is_none_is_refused(written):
    with pytest.raises(ConfigError, match="path: 'metrics' does not begin with '/'"):
        metrics_path(written("prometheus_config { enable: true path: 'metrics' }"))


def test_the_described_messages_do_not_touch_the_pool_that_packages_share(written):
    read_batching_parameters(written(""))
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("tensorflow.serving.BatchingParameters")


def test_batching_metrics_and_the_log_until_it_writes_need_no_tensorflow():
    program = (
        "import sys\n"
        "import tfx_encore.gateway.batching, tfx_encore.gateway.batching_parameters_file\n"
        "import tfx_encore.gateway.metrics, tfx_encore.gateway.monitoring_config\n"
        "import tfx_encore.gateway.request_log\n"
        "print([name for name in ('tensorflow', 'redis', 'grpc') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"
