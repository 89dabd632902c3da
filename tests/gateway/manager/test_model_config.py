"""Configurations: what is refused, in TensorFlow Serving's words, and where in the file it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.models.model_config import (
    ModelConfigError,
    Served,
    check_config,
    in_file,
    parse_text,
    read_text,
    settings_of,
    single_model,
)
from tfx_encore.schemas.errors import ConfigError


def config_of(text: str) -> Any:
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def entries(*bodies: str) -> Any:
    body = "".join(f"config {{ {body} }}" for body in bodies)
    return config_of(f"model_config_list {{ {body} }}")


def model(name: str, extra: str = "", platform: str = 'model_platform: "tensorflow"') -> str:
    return f'name: "{name}" base_path: "/models/{name}" {platform} {extra}'


NOTHING = Served(None, {}, lambda _model, _version: False)


def refused(new: Any, served: Served = NOTHING) -> ModelConfigError:
    with pytest.raises(ModelConfigError) as caught:
        check_config(new, served)
    return caught.value


def test_policies_and_labels_are_read() -> None:
    config = entries(
        model("a"),
        model("b", "model_version_policy { latest { num_versions: 2 } }"),
        model("c", "model_version_policy { all {} }"),
        model(
            "d",
            "model_version_policy { specific { versions: 4 versions: 2 } } "
            'version_labels { key: "stable" value: 2 }',
        ),
    )
    check_config(config, Served(None, {}, lambda name, version: (name, version) == ("d", 2)))
    a, b, c, d = settings_of(config).values()
    assert (a.name, a.base_path, a.is_explicit) == ("a", "/models/a", False)
    assert a.policy.wanted({1: "1", 2: "2"}) == {2: "2"}
    assert (b.policy.kind, b.policy.num_versions, b.is_explicit) == ("latest", 2, True)
    assert c.policy.kind == "all"
    assert (d.policy.versions, d.labels) == ((4, 2), {"stable": 2})


def test_a_single_model_is_configured_as_its_flags_say() -> None:
    config = single_model("m", "/models/m")
    check_config(config, NOTHING)
    assert list(settings_of(config)) == ["m"]


@pytest.mark.parametrize(
    ("new", "message", "entry"),
    [
        (
            entries(model("a"), model("b"), model("a")),
            "Illegal to list model a multiple times in config list",
            2,
        ),
        (
            entries(model("a"), 'name: "b" base_path: "models/b" model_platform: "tensorflow"'),
            "Expected model b to have an absolute path or URI; got base_path()=models/b",
            1,
        ),
        (
            entries('name: "b" model_platform: "tensorflow"'),
            "Expected model b to have an absolute path or URI; got base_path()=",
            0,
        ),
        (
            entries(model("a", platform="")),
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform, model name is a",
            0,
        ),
        (
            entries(model("a", "model_type: TENSORFLOW")),
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform, model name is a",
            0,
        ),
        (
            entries(model("a", platform="model_type: OTHER")),
            "ModelServerConfig::model_type choice 2 not supported.",
            0,
        ),
        (
            entries(model("a"), model("b", platform='model_platform: "torch"')),
            "Model b requests unsupported platform torch",
            1,
        ),
        (
            config_of('custom_model_config { type_url: "x" }'),
            "ModelServer does not yet support custom model config.",
            None,
        ),
    ],
)
def test_what_cannot_be_served_is_refused(new: Any, message: str, entry: int | None) -> None:
    error = refused(new)
    assert (error.code, error.message, error.entry) == (Code.INVALID_ARGUMENT, message, entry)


def test_a_uri_is_no_relative_path_and_the_old_way_to_name_the_platform_is_taken() -> None:
    new = entries(
        'name: "a" base_path: "gs://bucket/a" model_type: TENSORFLOW',
        'name: "b" base_path: "file:///models/b" model_type: TENSORFLOW',
    )
    check_config(new, NOTHING)
    assert settings_of(new)["b"].base_path == "/models/b"


def test_a_list_does_not_become_a_custom_config() -> None:
    error = refused(
        config_of('custom_model_config { type_url: "x" }'),
        Served(entries(model("a")), {}, lambda _model, _version: False),
    )
    assert error.code == Code.FAILED_PRECONDITION
    assert error.message.startswith("Cannot transition to requested config. It is only legal")


def test_a_model_does_not_change_its_platform() -> None:
    served = Served(entries(model("a")), {}, lambda _model, _version: False)
    assert refused(entries(model("a", platform='model_platform: "torch"')), served).message == (
        "Illegal to change a model's platform. For model a platform was tensorflow and new "
        "platform requested is torch"
    )


LABELLED = entries(model("a", 'version_labels { key: "stable" value: 2 }'))


@pytest.mark.parametrize(
    ("assigned", "available", "unavailable_too", "any_too", "is_taken"),
    [
        ({}, False, False, False, False),
        ({}, True, False, False, True),
        ({}, False, True, False, True),
        ({"stable": 2}, False, False, False, False),
        ({"stable": 2}, False, True, False, True),
        ({"stable": 1}, False, True, False, False),
        ({"stable": 1}, True, False, False, True),
        ({"stable": 1}, False, False, True, True),
        ({"canary": 1}, False, True, False, True),
    ],
)
def test_a_label_is_assigned_to_what_answers_or_if_allowed_for_the_first_time(
    assigned: dict[str, int], available: bool, unavailable_too: bool, any_too: bool, is_taken: bool
) -> None:
    served = Served(
        None,
        {"a": assigned},
        lambda *_: available,
        allow_unavailable=unavailable_too,
        allow_any=any_too,
    )
    if is_taken:
        check_config(LABELLED, served)
        return
    error = refused(LABELLED, served)
    assert error.code == Code.FAILED_PRECONDITION
    assert error.message == (
        "Request to assign label to version 2 of model a, which is not currently available for "
        "inference"
    )


def test_labels_are_judged_before_platforms_as_tensorflow_serving_does() -> None:
    new = entries(model("a", 'version_labels { key: "x" value: 1 }', 'model_platform: "torch"'))
    assert "assign label" in refused(new).message


TEXT = """# the models
model_config_list {
  # config { a comment }
  config { name: "a" base_path: "/a" model_platform: "tensorflow" }
  config: <
    name: "b"
    base_path: "b"
    model_platform: "tensorflow"
  >
}
"""


def test_an_error_names_the_file_and_the_line_of_the_model() -> None:
    error = in_file(refused(parse_text(TEXT, "models.config")), "models.config", TEXT)
    assert isinstance(error, ConfigError)
    assert str(error).startswith("models.config:5: Expected model b to have an absolute path")


def test_a_label_that_is_refused_comes_with_the_flag_that_allows_it() -> None:
    error = in_file(refused(LABELLED), "models.config", "model_config_list { config { } }")
    assert str(error).startswith("models.config:1: Request to assign label to version 2")
    assert "--allow_version_labels_for_unavailable_models" in str(error)


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("model_config_list {\n  config {\n    nam: 1\n", "models.config:3", "no field named"),
        ("model_config_list {", "models.config", "not a ModelServerConfig"),
        ("\n\n}", "models.config:3", "not a ModelServerConfig"),
        ('model_config_list { config { name: "\udcff" } }', "models.config", "ModelServerConfig"),
    ],
)
def test_a_text_that_cannot_be_parsed_is_refused_with_its_line(
    text: str, place: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse_text(text, "models.config")
    assert str(caught.value).startswith(place)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.config: cannot be read: No such file"):
        read_text(str(tmp_path / "none.config"))
    (tmp_path / "latin").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_text(str(tmp_path / "latin"))
