"""What the command says of bad input: a clear line, an exit code, and nothing half-written."""

from __future__ import annotations

import fcntl
import pathlib
import sqlite3

import pytest
import yaml


def _edit_config(folder: pathlib.Path, **sections) -> None:
    file = folder / "encore.yaml"
    config = yaml.safe_load(file.read_text())
    for name, values in sections.items():
        config[name] = {**config.get(name, {}), **values}
    file.write_text(yaml.safe_dump(config))


def _rewrite(folder: pathlib.Path, change) -> pathlib.Path:
    file = folder / ".encore/data/span-2/data.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(change(lines)) + "\n")
    return file


def _only_message(finished) -> str:
    """The message, which must be the single line on standard error."""
    (line,) = finished.err.strip().splitlines()
    assert line.startswith("encore: ")
    return line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [line.split(",", 2)[2] for line in lines], "missing column"),
        (lambda lines: [lines[0]], "no rows"),
        (
            lambda lines: [*lines, lines[-1].replace(lines[-1].split(",")[1], "twelve", 1)],
            "'twelve'",
        ),
        (lambda lines: [*lines, "1,2,3"], "3 values for 18 columns"),
        (lambda lines: [], "empty"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_before_anything_starts(
    taxi_project, encore, change, said
):
    file = _rewrite(taxi_project, change)
    refused = encore(taxi_project, "run", "--span", "2")
    assert refused.code == 1
    message = _only_message(refused)
    assert said in message
    assert str(file) in message
    assert not (taxi_project / ".encore/metadata.sqlite").exists()
    assert not (taxi_project / ".encore/releases").exists()


def test_a_schema_that_names_a_feature_the_data_lacks_is_refused(taxi_project, encore):
    schema = taxi_project / "taxi.pbtxt"
    schema.write_text(schema.read_text() + 'feature { name: "surge" type: FLOAT }\n')
    refused = encore(taxi_project, "run", "--span", "1")
    assert refused.code == 1
    assert "missing column surge" in _only_message(refused)


def test_a_slice_of_a_feature_that_the_schema_lacks_is_refused_with_the_nearest(
    taxi_project, encore
):
    _edit_config(taxi_project, evaluation={"slices": [[], ["payment_typ"]]})
    refused = encore(taxi_project, "run", "--span", "1")
    assert refused.code == 2
    message = _only_message(refused)
    assert "encore.yaml" in message
    assert "evaluation.slices" in message
    assert "did you mean 'payment_type'" in message


def test_two_runs_at_once_in_one_workspace_are_kept_apart(released_copy, encore):
    with (released_copy / ".encore/run.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = encore(released_copy, "run", "--span", "2", "--force")
    assert refused.code == 4
    assert "another `encore run`" in _only_message(refused)


def test_a_metadata_file_of_another_version_is_refused_and_the_live_version_untouched(
    released_copy, encore
):
    with sqlite3.connect(released_copy / ".encore/metadata.sqlite") as store:
        store.execute("UPDATE MLMDEnv SET schema_version = 99")
    refused = encore(released_copy, "records")
    assert refused.code == 1
    assert "another version of ml-metadata" in _only_message(refused)
    refused = encore(released_copy, "run", "--span", "2", "--force")
    assert refused.code == 1
    assert "another version of ml-metadata" in _only_message(refused)
    assert encore(released_copy, "versions", "--json").json["labels"] == {"stable": 2}


def test_an_edited_release_directory_is_refused_and_named(released_copy, encore):
    labels = released_copy / ".encore/releases/taxi/labels.json"
    labels.write_text("{")
    refused = encore(released_copy, "versions")
    assert refused.code == 1
    assert str(labels) in _only_message(refused)


@pytest.mark.slow
def test_a_model_that_answers_nan_is_named_and_nothing_is_pushed(released_copy, encore):
    module = released_copy / "broken.py"
    module.write_text(
        "from tfx_encore.pipeline.taxi.model import *\n"
        "from tfx_encore.pipeline.taxi import model as taxi\n"
        "import tensorflow as tf\n"
        "class Broken(taxi.ServedModel):\n"
        "    def _predict(self, raw):\n"
        "        answer = super()._predict(raw)['probability']\n"
        "        return {'probability': answer * float('nan')}\n"
        "taxi.ServedModel = Broken\n"
        "run_fn, preprocessing_fn = taxi.run_fn, taxi.preprocessing_fn\n"
    )
    _edit_config(released_copy, training={"module": "broken.py", "train_steps": 1})
    failed = encore(released_copy, "run", "--span", "2")
    assert failed.code == 1
    message = _only_message(failed)
    assert "CacheWarmer failed" in message
    assert "with NaN" in message
    log = pathlib.Path(message.rsplit("full log: ", 1)[1].rstrip(")"))
    assert "NaN" in log.read_text()
    assert encore(released_copy, "versions", "--json").json["labels"] == {"stable": 2}


@pytest.mark.slow
def test_a_module_that_fails_names_the_component_its_error_and_the_log(released_copy, encore):
    (released_copy / "broken.py").write_text(
        "from tfx_encore.pipeline.taxi.model import preprocessing_fn\n"
        "def run_fn(fn_args):\n"
        "    raise ValueError('no such optimizer: sgdd')\n"
    )
    _edit_config(released_copy, training={"module": "broken.py"})
    failed = encore(released_copy, "run", "--span", "2")
    message = _only_message(failed)
    assert "Trainer failed: ValueError: no such optimizer: sgdd" in message
    assert "✗ Trainer" in failed.out


@pytest.mark.slow
def test_drifted_data_is_refused_with_exit_code_3_and_the_evidence(released_copy, encore):
    def in_cents(lines):
        column = lines[0].split(",").index("fare")
        for line in lines[1:]:
            values = line.split(",")
            values[column] = str(float(values[column]) * 100)
            yield ",".join(values)

    file = released_copy / ".encore/data/span-2/data.csv"
    lines = file.read_text().splitlines()
    assert '"' not in file.read_text()
    file.write_text("\n".join([lines[0], *in_cents(lines)]) + "\n")
    refused = encore(released_copy, "run", "--span", "2")
    assert refused.code == 3
    assert "fare" in refused.out
    assert "BLOCK" in refused.out
    assert encore(released_copy, "versions", "--json").json["labels"] == {"stable": 2}
    assert len(encore(released_copy, "versions", "--json").json["versions"]) == 2
    assert len(encore(released_copy, "records", "--json").json) == 1
