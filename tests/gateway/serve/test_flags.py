"""The flags of `encore serve`, in TensorFlow Serving's spelling, and what they become."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest

from tfx_encore.gateway.monitoring_config import metrics_path
from tfx_encore.gateway.settings import NOT_FLAGS, GatewaySettings, Opener
from tfx_encore.gateway.tf_flags import TF_FLAGS
from tfx_encore.pipeline.serve_flags import ServeCommand, options
from tfx_encore.pipeline.serve_settings import Wanted, check, settings_of
from tfx_encore.schemas.errors import ConfigError

# Every flag of tensorflow_serving/model_servers/main.cc, with its default there (server.h).
TF_SERVING = {
    "port": 8500,
    "grpc_socket_path": None,
    "rest_api_port": None,
    "rest_api_num_threads": ...,
    "rest_api_timeout_in_ms": 30_000,
    "rest_api_enable_cors_support": False,
    "enable_batching": False,
    "allow_version_labels_for_unavailable_models": False,
    "batching_parameters_file": None,
    "enable_per_model_batching_parameters": ...,
    "model_config_file": None,
    "model_config_file_poll_wait_seconds": 0,
    "model_name": None,
    "model_base_path": None,
    "num_load_threads": 0,
    "num_unload_threads": ...,
    "max_num_load_retries": 5,
    "load_retry_interval_micros": 60_000_000,
    "file_system_poll_wait_seconds": 1,
    "flush_filesystem_caches": ...,
    "tensorflow_session_parallelism": 0,
    "tensorflow_session_config_file": ...,
    "tensorflow_intra_op_parallelism": 0,
    "tensorflow_inter_op_parallelism": 0,
    "use_alts_credentials": ...,
    "ssl_config_file": None,
    "platform_config_file": ...,
    "per_process_gpu_memory_fraction": ...,
    "saved_model_tags": ...,
    "grpc_channel_arguments": "",
    "grpc_max_threads": ...,
    "enable_model_warmup": True,
    "num_request_iterations_for_warmup": 0,
    "version": ...,
    "monitoring_config_file": None,
    "remove_unused_fields_from_bundle_metagraph": ...,
    "prefer_tflite_model": ...,
    "num_tflite_pools": ...,
    "num_tflite_interpreters_per_pool": ...,
    "enable_signature_method_name_check": ...,
    "xla_cpu_compilation_enabled": ...,
    "xla_gpu_compilation_enabled": ...,
    "enable_profiler": ...,
    "thread_pool_factory_config_file": ...,
    "mixed_precision": ...,
    "skip_initialize_tpu": ...,
    "enable_grpc_healthcheck_service": False,
    "enable_serialization_as_tensor_content": ...,
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def _given(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    command = ServeCommand("serve", callback=lambda **given: found.update(given), params=options())
    command.main(list(arguments), standalone_mode=False)
    return found


def _wanted(*arguments: str) -> Wanted:
    return settings_of(_given(*arguments), environ={})


def _settings(*arguments: str) -> GatewaySettings:
    return _wanted("--model_base_path=/models/taxi", *arguments).settings


def test_every_flag_of_tensorflow_serving_is_known() -> None:
    assert TF_SERVING.keys() <= _given().keys()


def test_flags_that_are_supported_have_tensorflow_servings_defaults() -> None:
    fields = GatewaySettings.model_fields
    expected = {name: default for name, default in TF_SERVING.items() if default is not ...}
    assert {name: fields[name].default for name in expected} == expected


def test_a_flag_is_supported_or_does_nothing_never_both() -> None:
    assert not {flag.name for flag in TF_FLAGS} & GatewaySettings.model_fields.keys()
    assert {flag.name for flag in TF_FLAGS} <= TF_SERVING.keys()


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--enable_batching"], True),
        (["--enable_batching=true"], True),
        (["--enable_batching=false"], False),
        (["--enable-batching"], True),
        (["--enable_batching", "--enable_batching=false"], False),
        ([], False),
    ],
)
def test_truth_values_are_written_as_tensorflow_serving_takes_them(
    arguments: list[str], value: bool
) -> None:
    assert _settings(*arguments).enable_batching is value


def test_a_flag_that_is_on_by_default_is_turned_off() -> None:
    assert _settings("--enable_model_warmup=false").warmup_iterations == 0
    assert _settings().warmup_iterations == 1
    assert _settings("--num_request_iterations_for_warmup=3").warmup_iterations == 3


def test_values_follow_an_equals_sign_or_come_next() -> None:
    settings = _settings("--max_num_load_retries=2", "--num_load_threads", "4")
    assert (settings.max_num_load_retries, settings.num_load_threads) == (2, 4)


@pytest.mark.parametrize(
    ("arguments", "ports"),
    [
        ([], (8500, None)),
        (["--rest_api_port=8501"], (8500, 8501)),
        (["--port=0", "--rest_api_port=8501"], (None, 8501)),
        (["--port=auto", "--rest_api_port=auto"], (0, 0)),
        (["--rest_api_port=0"], (8500, None)),
    ],
)
def test_port_zero_turns_a_listener_off(arguments: list[str], ports: tuple[Any, Any]) -> None:
    settings = _settings(*arguments)
    assert (settings.port, settings.rest_api_port) == ports


def test_a_misspelt_flag_is_named_with_its_likeness() -> None:
    with pytest.raises(click.NoSuchOption) as error:
        _given("--rest_api_prot=8501")
    assert "--rest_api_port" in error.value.possibilities


@pytest.mark.parametrize("flag", [flag for flag in TF_FLAGS if flag.refused], ids=lambda f: f.name)
def test_a_flag_that_would_change_answers_is_refused_with_the_reason(flag: Any) -> None:
    value = "true" if flag.kind == "bool" else "x"
    with pytest.raises(ConfigError, match=re.escape(f"--{flag.name}: not supported: ")):
        _settings(f"--{flag.name}={value}")
    unset = str(flag.default).lower()
    assert _wanted("--model_base_path=/m", f"--{flag.name}={unset}").notes == ()


@pytest.mark.parametrize(
    "flag", [flag for flag in TF_FLAGS if not flag.refused], ids=lambda f: f.name
)
def test_a_flag_without_effect_is_taken_and_said_so(flag: Any) -> None:
    value = {"bool": str(not flag.default).lower(), "int": "7", "float": "0.5", "text": "x"}
    (note,) = _wanted("--model_base_path=/m", f"--{flag.name}={value[flag.kind]}").notes
    assert note == f"--{flag.name} has no effect: {flag.reason}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--releases=/r", "--model_base_path=/m"], "both say what to serve"),
        (["--releases=/r", "--model_config_file=/m"], "both say what to serve"),
        (["--config=x.yaml", "--releases=/r"], "--config and --releases both say"),
        ([], "nothing to serve"),
        (["--releases=/r", "--port=0"], "all off"),
        (["--releases=/r", "--port=9", "--rest_api_port=9"], "choose two ports"),
        (["--releases=/r", "--port=http"], "--port: 'http' is no port"),
        (["--releases=/r", "--port=65536"], "is no port"),
        (["--releases=/r", "--batching_parameters_file=/f"], "without --enable_batching"),
        (["--releases=/r", "--workers=0"], "--workers: Input should be greater"),
        (["--releases=/r", "--request_log_rate=2"], "--request_log_rate: Input should be less"),
        (["--releases=/r", "--upstream=nowhere"], "--upstream: "),
        (["--releases=/r", "--redis=redis://a", "--redis_config=b"], "--redis and --redis_config"),
        (["--releases=/r", "--redis=http://a"], "--redis: url: url must begin with redis://"),
        (["--releases=/r", "--redis_config=/nope"], "cannot be read"),
        (["--releases=/r", "--ledger=mlmd"], "--ledger: the ML Metadata of which project"),
        (["--releases=/r", "--cache_key_env=A", "--cache_key_file=b"], "--cache_key_file and"),
        (["--releases=/r", "--grpc_channel_arguments=a"], "'a' is not NAME=VALUE"),
        (
            [
                "--releases=/r",
                "--tensorflow_session_parallelism=1",
                "--tensorflow_intra_op_parallelism=1",
                "--tensorflow_inter_op_parallelism=1",
            ],
            "are all given",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        _wanted(*arguments)
    assert "\n" not in str(error.value)


def test_a_configuration_file_wins_over_the_single_model_that_images_always_name() -> None:
    wanted = _wanted("--model_config_file=/c", "--model_name=model", "--model_base_path=/m")
    assert wanted.settings.model_config_file == "/c"
    assert wanted.settings.model_base_path is None
    assert wanted.notes == (
        "--model_name has no effect: --model_config_file is given",
        "--model_base_path has no effect: --model_config_file is given",
    )


def test_numbers_among_channel_arguments_are_numbers() -> None:
    settings = _settings("--grpc_channel_arguments=grpc.max_connection_age_ms=2000,a=b")
    assert settings.channel_arguments() == (("grpc.max_connection_age_ms", 2000), ("a", "b"))


@pytest.mark.parametrize(
    ("arguments", "threads"),
    [
        ([], (0, 0)),
        (["--tensorflow_session_parallelism=3"], (3, 3)),
        (["--tensorflow_intra_op_parallelism=2"], (2, 0)),
        (["--tensorflow_session_parallelism=3", "--tensorflow_inter_op_parallelism=2"], (0, 2)),
    ],
)
def test_numbers_of_threads_are_as_in_tensorflow_serving(
    arguments: list[str], threads: tuple[int, int]
) -> None:
    settings = _settings(*arguments)
    assert (settings.intra_op_threads, settings.inter_op_threads) == threads


def test_settings_survive_the_way_to_a_worker() -> None:
    settings = _settings("--redis=redis://h:1/2", "--cache_key_env=KEYS", "--quiet")
    settings = settings.model_copy(update={"ledger": Opener(function="os.path:join", argument="a")})
    assert GatewaySettings.model_validate_json(settings.model_dump_json()) == settings
    assert settings.log_level == "warning"
    assert settings.ledger.open() == "a"


def test_relative_paths_become_absolute() -> None:
    assert _wanted("--releases=r").settings.releases == str(Path("r").absolute())
    assert _wanted("--model_base_path=gs://b/m").settings.model_base_path == "gs://b/m"


def test_every_field_has_words_for_the_help() -> None:
    for name, field in GatewaySettings.model_fields.items():
        assert field.description, name
    text = ServeCommand("serve", params=options()).get_help(click.Context(click.Command("serve")))
    shown = set(re.findall(r"--([a-z_]+)", text))
    assert GatewaySettings.model_fields.keys() - NOT_FLAGS | TF_SERVING.keys() <= shown


# --- what is checked before anything is loaded ---------------------------------------------------


def _problem(*arguments: str) -> str:
    with pytest.raises(ConfigError) as error:
        check(_wanted("--port=auto", *arguments).settings)
    return str(error.value)


def test_a_base_path_must_be_there_and_may_be_empty(tmp_path: Path) -> None:
    assert "/nope is no directory" in _problem("--model_base_path=/nope")
    settings = _wanted(f"--model_base_path={tmp_path}", "--port=auto").settings
    assert check(settings) == [f"no version in {tmp_path} yet; serving begins when one comes"]
    (tmp_path / "3").mkdir()
    assert check(settings) == []


def test_a_release_directory_must_hold_a_release(tmp_path: Path) -> None:
    assert "/nope is no directory" in _problem("--releases=/nope")
    assert "no releases in" in _problem(f"--releases={tmp_path}")
    (tmp_path / "taxi").mkdir()
    (tmp_path / "taxi" / "labels.json").write_text("{}")
    wanted = f"no release of wine in {tmp_path}; there are taxi"
    assert wanted in _problem(f"--releases={tmp_path}", "--model_name=wine")


@pytest.mark.parametrize(
    ("flags", "content", "message"),
    [
        (["--model_config_file"], None, "cannot be read"),
        (["--model_config_file"], b"", "the file is empty"),
        (["--model_config_file"], b"\xff\xfe", "cannot be read"),
        (["--model_base_path=.", "--ssl_config_file"], None, "cannot be read"),
        (["--model_base_path=.", "--cache_config"], b"models: [", "neither YAML nor JSON"),
        (["--model_base_path=.", "--cache_config"], b"modles: {}", "modles"),
        (["--model_base_path=.", "--monitoring_config_file"], b"x: 1", "MonitoringConfig"),
        (["--model_base_path=.", "--cache_key_file"], b"nothing", "key"),
        (
            ["--model_base_path=.", "--enable_batching", "--batching_parameters_file"],
            b"max_batch_size: x",
            "BatchingParameters",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, flags: list[str], content: bytes | None, message: str
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    problem = _problem(*flags[:-1], f"{flags[-1]}={file}")
    assert str(file) in problem
    assert message in problem


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "cache"
    assert "--cache_dir" in _problem("--model_base_path=.", f"--cache_dir={path}")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: true path: "/m" }', "/m"),
        ('prometheus_config { path: "/m" }', None),
        ("", None),
    ],
)
def test_a_monitoring_configuration_names_the_path_of_the_metrics(
    tmp_path: Path, text: str, path: str | None
) -> None:
    (tmp_path / "m").write_text(text)
    assert metrics_path(str(tmp_path / "m")) == path


def test_a_metrics_path_begins_with_a_slash(tmp_path: Path) -> None:
    (tmp_path / "m").write_text('prometheus_config { enable: true path: "m" }')
    with pytest.raises(ConfigError, match="does not begin with '/'"):
        metrics_path(str(tmp_path / "m"))
