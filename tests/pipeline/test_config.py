"""The project file: what is said when it is wrong, and what is generated from its models."""

from __future__ import annotations

import json
import pathlib
import re

import jsonschema
import pytest
from pydantic import BaseModel

from tfx_encore.pipeline import config_docs
from tfx_encore.pipeline.config import (
    ProjectConfig,
    check_features,
    config_schema,
    features_used,
    load_config,
    parse_config,
)
from tfx_encore.pipeline.config_errors import nested_model
from tfx_encore.pipeline.yaml_reader import YamlError, read_yaml
from tfx_encore.schemas.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[2]

GOOD = """\
model: churn
data:
  spans: data/span-{SPAN}/*.csv
  schema: schema.pbtxt
training:
  module: model.py
evaluation:
  label_key: churned
"""


@pytest.fixture
def said(tmp_path):
    """Writes a project file and returns the one line that is said of it."""

    def of(text: str | bytes) -> str:
        file = tmp_path / "encore.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ConfigError) as caught:
            load_config(file)
        message = str(caught.value)
        assert message.startswith(f"{file}: ")
        assert "\n" not in message
        assert caught.value.exit_code == 2
        return message.removeprefix(f"{file}: ")

    return of


def test_a_minimal_file_is_enough(tmp_path):
    (tmp_path / "encore.yaml").write_text(GOOD)
    config = load_config(tmp_path / "encore.yaml")
    assert config.data.schema_file == "schema.pbtxt"
    assert config.workspace == ".encore"


def test_the_taxi_project_is_valid():
    assert load_config(ROOT / "encore.yaml").model == "taxi"


def test_a_file_that_is_not_there_says_how_to_get_one(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file; `encore init DIR`"):
        load_config(tmp_path / "nowhere.yaml")


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("added", "key", "suggested"),
    [
        ("modle: x", "modle", "model"),
        ("drift: {ignore_feature: [a]}", "drift.ignore_feature", "ignore_features"),
        ("drift: {thresholds: {pssi: 1}}", "drift.thresholds.pssi", "psi"),
        ("drift: {features: {fare: {severty: WARN}}}", "drift.features.fare.severty", "severity"),
        ("warmup: {max_entry: 1}", "warmup.max_entry", "max_entries"),
        ("release: {keep_version: 1}", "release.keep_version", "keep_versions"),
        ("beam: {runer: x}", "beam.runer", "runner"),
        ("metadata: {sqllite: x}", "metadata.sqllite", "sqlite"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_and_the_valid_ones(said, added, key, suggested):
    message = said(f"{GOOD}{added}\n")
    assert message.startswith(f"{key}: unknown key; did you mean '{suggested}'? Valid: ")
    assert message.endswith("(line 9)")


@pytest.mark.parametrize(
    ("old", "new", "key", "suggested"),
    [
        ("schema: schema.pbtxt", "shcema: s", "data.shcema", "schema"),
        ("module: model.py", "modul: m", "training.modul", "module"),
        ("label_key: churned", "lable_key: l", "evaluation.lable_key", "label_key"),
    ],
)
def test_a_misspelt_required_key_is_called_misspelt_not_missing(said, old, new, key, suggested):
    assert f"{key}: unknown key; did you mean '{suggested}'" in said(GOOD.replace(old, new))


def test_an_unknown_key_like_no_other_lists_the_valid_ones(said):
    message = said(f"{GOOD}zzz: 1\n")
    assert message.startswith("zzz: unknown key; valid: model, workspace, releases, data,")


def test_an_unknown_key_in_a_list_item_has_its_index(said):
    message = said(f"{GOOD}  rules:\n    - metric: auc\n      max_dorp: 0.1\n")
    assert message.startswith("evaluation.rules.0.max_dorp: unknown key; did you mean 'max_drop'")
    assert message.endswith("(line 11)")


@pytest.mark.parametrize(
    ("left_out", "key"),
    [
        ("model: churn\n", "model"),
        ("  spans: data/span-{SPAN}/*.csv\n", "data.spans"),
        ("evaluation:\n  label_key: churned\n", "evaluation"),
    ],
)
def test_a_required_key_that_is_missing_is_named(said, left_out, key):
    assert said(GOOD.replace(left_out, "")).startswith(f"{key}: this key is required")


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("release: {keep_versions: many}", "expected a whole number, found 'many'"),
        ('release: {keep_versions: "5"}', "expected a whole number, found '5'"),
        ("release: {keep_versions: 2.5}", "expected a whole number, found 2.5"),
        ("release: {keep_versions: true}", "expected a whole number, found true"),
        ("release: {keep_versions: }", "expected a whole number, found nothing; give it a value"),
        ("warmup: {measure_transformed: yes}", "expected true or false, found 'yes'"),
        ("workspace: 5", "workspace: expected text, found 5; quote it to make it text"),
        ("workspace: [a]", "workspace: expected text, found ['a']"),
        ("drift: {ignore_features: fare}", "expected a list, found 'fare'"),
        ("drift: {ignore_features: [fare, 3]}", "ignore_features.1: expected text, found 3"),
        ("drift: 5", "drift: expected a mapping, found 5"),
        ("drift:", "drift: expected a mapping, found nothing; give it a value, or remove the key"),
        ("drift: {features: {fare: [1]}}", "drift.features.fare: expected a mapping, found [1]"),
    ],
)
def test_a_wrong_type_is_named_with_what_was_found(said, added, message):
    assert message in said(f"{GOOD}{added}\n")


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("release: {keep_versions: 0}", "keep_versions: must be at least 1, found 0"),
        ("release: {keep_versions: 5000}", "keep_versions: must be at most 1,000, found 5000"),
        ("drift: {warn_fraction: 0}", "drift.warn_fraction: must be greater than 0, found 0"),
        ("drift: {warn_fraction: .nan}", "drift.warn_fraction: must be at most 1, found nan"),
        ("warmup: {held_out_fraction: 1}", "held_out_fraction: must be less than 1, found 1"),
        ("drift: {severity: LOUD}", "drift.severity: found 'LOUD'; valid: WARN, BLOCK"),
        ("drift: {severity: BLOK}", "found 'BLOK'; did you mean 'BLOCK'? Valid: WARN, BLOCK"),
        (
            "release: {label: Stable!}",
            "release.label: found 'Stable!', which does not match ^[a-z]",
        ),
    ],
)
def test_a_value_out_of_range_is_named_with_the_range(said, added, message):
    assert message in said(f"{GOOD}{added}\n")


def test_a_rule_for_a_slice_that_is_not_cut_lists_those_that_are(said):
    message = said(f"{GOOD}  rules: [{{metric: auc, max_drop: 0.1, slices: [[region]]}}]\n")
    assert "rules.0.slices names ['region'], which `slices` does not cut" in message


def test_a_value_that_fits_no_form_of_a_key_names_the_forms(said):
    message = said(f"{GOOD}  rules: [{{metric: auc, max_drop: 0.1, slices: [x]}}]\n")
    assert "rules.0.slices.0: expected a mapping or a list, found 'x'" in message


def test_a_long_value_is_shortened(said):
    assert len(said(f"{GOOD}drift: {'x' * 5000}\n")) < 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping with the keys model, workspace,"),
        ("# nothing but this\n", "found nothing"),
        ("- model: churn\n", "found a list"),
        ("churn\n", "found a text"),
        (GOOD.replace("  label_key", "\tlabel_key"), "line 8, column 1: found character '\\t'"),
        (GOOD.replace("  label_key", "\tlabel_key"), "indent with spaces, not tabs"),
        (f"{GOOD}drift: [a\nb: c\n", "line 10, column 2: expected ',' or ']'"),
        (f"{GOOD}model: other\n", "line 9: the key 'model' is given twice, first in line 1"),
        (f"{GOOD}drift:\n  split: a\n  split: b\n", "line 11: the key 'split' is given twice"),
        (f"{GOOD}drift: {{features: {{a: {{}}, a: {{}}}}}}\n", "the key 'a' is given twice"),
        (f"{GOOD}5: x\n", "line 9: the key '5' is no text; quote it"),
        (f"{GOOD}? [a]\n: b\n", "line 9: the key (a list or mapping) is no text"),
        (f"{GOOD}drift: *nothing\n", "line 9, column 8: found undefined alias"),
        (f"{GOOD}drift: &me [*me]\n", "an alias refers to itself"),
        (f"{GOOD}---\na: b\n", "another document"),
        (f"{GOOD}drift: !!python/object:os.system x\n", "could not determine a constructor"),
        (f"{GOOD}drift: \0\n", "special characters are not allowed"),
        (GOOD.encode() + b"workspace: caf\xe9\n", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_yaml_mapping_is_refused_with_its_line(said, text, message):
    assert message in said(text)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("1e-3", 0.001),
        ("12:30", "12:30"),
        ("2024-01-31", "2024-01-31"),
        ("010", 10),
        ("1_000", "1_000"),
        ("-5", -5),
        ("~", None),
        (".inf", float("inf")),
        ('"5"', "5"),
    ],
)
def test_yaml_is_read_as_version_1_2(written, value):
    content = read_yaml(f"key: {written}\n").content
    assert content == {"key": value}
    assert type(content["key"]) is type(value)


def test_merge_keys_work_and_may_be_overridden():
    text = "base: &base {a: 1, b: 2}\nown: {<<: *base, b: 3}\n"
    assert read_yaml(text).content["own"] == {"a": 1, "b": 3}


def test_a_document_knows_the_lines_of_its_keys_and_items():
    lines = read_yaml("a: 1\nb:\n  c:\n    - x\n    - y\n").lines
    assert lines == {("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", 0): 4, ("b", "c", 1): 5}


def test_yaml_nested_without_end_is_refused():
    with pytest.raises(YamlError, match="nested too deeply"):
        read_yaml("[" * 5000 + "]" * 5000)


def test_a_number_is_taken_for_text_only_as_a_slice_value():
    document = read_yaml(f"{GOOD}  slices: [[hour]]\n  watched_slices: [{{hour: 8}}]\n").content
    assert parse_config(document, source="x").evaluation.watched_slices == ({"hour": "8"},)


def _config(**sections) -> ProjectConfig:
    document = read_yaml(GOOD).content
    for name, section in sections.items():
        document[name] = {**document.get(name, {}), **section}
    return parse_config(document, source="encore.yaml")


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"drift": {"ignore_features": ["ages"]}}, "drift.ignore_features"),
        ({"drift": {"labels": ["ages"]}}, "drift.labels"),
        ({"drift": {"features": {"ages": {}}}}, "drift.features"),
        ({"evaluation": {"slices": [["ages"]]}}, "evaluation.slices"),
        ({"evaluation": {"watched_slices": [{"ages": "1"}]}}, "evaluation.watched_slices"),
        ({"evaluation": {"label_key": "ages"}}, "evaluation.label_key"),
        ({"warmup": {"exclude_features": ["ages"]}}, "warmup.exclude_features"),
        ({"warmup": {"timestamp_feature": "ages"}}, "warmup.timestamp_feature"),
    ],
)
def test_a_feature_that_the_schema_lacks_is_named_with_the_nearest(sections, key):
    with pytest.raises(ConfigError) as caught:
        check_features(features_used(_config(**sections)), ["age", "churned"], "encore.yaml")
    assert str(caught.value).startswith(
        f"encore.yaml: {key}: no feature 'ages' in the schema; did you mean 'age'? Valid: age,"
    )


def test_a_label_that_the_model_makes_need_not_be_in_the_schema():
    config = _config(
        evaluation={"label_key": "made", "preprocessing_functions": ["transform_features"]}
    )
    check_features(features_used(config), ["age"], "encore.yaml")


def test_the_json_schema_accepts_the_taxi_project_and_refuses_a_wrong_one():
    validator = jsonschema.Draft202012Validator(config_schema())
    document = read_yaml((ROOT / "encore.yaml").read_text()).content
    assert list(validator.iter_errors(document)) == []
    wrong = {**document, "drift": {"severty": "WARN"}}
    (error,) = validator.iter_errors(wrong)
    assert "severty" in error.message


def test_the_json_schema_in_the_repository_is_current():
    assert (ROOT / config_docs.SCHEMA_PATH).read_text() == config_docs.schema_text(), (
        "run python -m tfx_encore.pipeline.config_docs"
    )


def test_the_reference_in_the_docs_is_current():
    assert (ROOT / config_docs.REFERENCE_PATH).read_text() == config_docs.reference_text(), (
        "run python -m tfx_encore.pipeline.config_docs"
    )


def _keys(model: type[BaseModel], path: str = "") -> dict[str, str]:
    """Section and key of every field, with its description."""
    found = {}
    for name, field in model.model_fields.items():
        found[f"{path}:{field.alias or name}"] = field.description or ""
        inner = nested_model(field.annotation)
        if inner is not None:
            found |= _keys(inner, f"{path}.{field.alias or name}")
    return found


def test_every_key_is_in_the_reference_with_a_meaning():
    keys = _keys(ProjectConfig)
    rows = re.findall(
        r"^\| `(\w+)` \| (.+) \| (.*) \| (.+) \|$", config_docs.reference_text(), re.MULTILINE
    )
    assert len(rows) == len(keys) > 60
    assert all(meaning.strip() for *_, meaning in rows)


@pytest.mark.parametrize("name", ["config", "decision", "record", "manifest"])
def test_the_command_prints_json_schemas(encore, tmp_path, name):
    printed = encore(tmp_path, "schema", name)
    assert (printed.code, printed.err) == (0, "")
    jsonschema.Draft202012Validator.check_schema(json.loads(printed.out))
    assert json.loads(printed.out)["type"] == "object"


def test_the_printed_config_schema_is_that_of_the_repository(encore, tmp_path):
    in_repository = json.loads((ROOT / config_docs.SCHEMA_PATH).read_text())
    assert encore(tmp_path, "schema", "config").json == in_repository


def test_an_unknown_schema_is_refused_with_the_valid_ones(encore, tmp_path):
    refused = encore(tmp_path, "schema", "chart")
    assert refused.code == 2
    assert "'config', 'decision', 'record', 'manifest'" in refused.err
