"""`encore init`: a project for a CSV that is not the taxi's, written whole or not at all."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import pathlib
import random
import re
import subprocess
import sys

import pytest

from tfx_encore.pipeline import init_project as init_module
from tfx_encore.pipeline import init_schema
from tfx_encore.pipeline.config import load_config
from tfx_encore.pipeline.csv_columns import Column
from tfx_encore.pipeline.csv_profile import profile_csv
from tfx_encore.pipeline.data_schema import read_columns
from tfx_encore.pipeline.init_columns import choose_roles, schema_columns, slices
from tfx_encore.pipeline.init_project import InitRequest, init_project
from tfx_encore.pipeline.spans import read_span
from tfx_encore.schemas.errors import ConfigError, DataError, EncoreError

JOBS = ("teacher", "nurse", "engineer, civil", 'chef "de partie"', "retired", "clerk")


def write_bank(file: pathlib.Path, rows: int = 3000, seed: int = 1) -> pathlib.Path:
    """Customers of a bank and whether they left: the kind of file that people have."""
    dice = random.Random(seed)
    with file.open("w", encoding="utf-8", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(
            [
                "customer_id",
                "opened",
                "age",
                "Yearly Income",
                "balance",
                "products",
                "region",
                "job-title",
                "remarks",
                "2nd card",
                "empty",
                "churned",
            ]
        )
        for number in range(rows):
            age, products = dice.randint(18, 88), dice.choice([1, 1, 1, 2, 2, 3, 4])
            region, balance = dice.choice(["North", "South", "West"]), dice.gauss(2000, 1500)
            score = 0.05 * (45 - age) + 1.5 * (products == 1) - balance / 2000 - 0.2
            out.writerow([
                f"C-{seed}-{number:06d}",
                f"20{dice.randint(10, 24)}-{dice.randint(1, 12):02d}-{dice.randint(1, 28):02d}",
                age if dice.random() > 0.03 else "",
                f"{dice.lognormvariate(10.3, 0.5):.2f}" if dice.random() > 0.1 else "",
                f"{balance:.2f}",
                products,
                region,
                dice.choice(JOBS) if dice.random() > 0.05 else "",
                f"called, no answer\nagain {dice.random()}" if dice.random() < 0.8 else "",
                dice.choice(["true", "false"]),
                "",
                "yes" if dice.random() < 1 / (1 + math.exp(-score)) else "no",
            ])  # fmt: skip
    return file


@pytest.fixture(scope="module")
def bank(tmp_path_factory, encore):
    """The command's project for the bank, and what it said. Do not change the folder."""
    home = tmp_path_factory.mktemp("bank")
    write_bank(home / "bank customers.csv")
    said = encore(
        home, "init", "new/project", "--csv", "bank customers.csv", "--label", "churned",
        "--positive", "yes",
    )  # fmt: skip
    return home / "new/project", said


def test_a_project_is_written_and_nothing_but_its_story_is_printed(bank):
    folder, said = bank
    assert (said.code, said.err) == (0, "")
    assert not re.search(r"WARNING|INFO|tensorflow/|absl|Traceback", said.out)
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == [
        ".gitignore",
        "data/span-1/bank customers.csv",
        "encore.schema.json",
        "encore.yaml",
        "model.py",
        "schema.pbtxt",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["project"]
    assert "encore run --config new/project/encore.yaml" in said.out


def test_what_was_decided_on_each_column_is_said(bank):
    out = " ".join(bank[1].out.split())
    assert re.search(r"predicts churned = 'yes' \(\d\d\.\d% of the rows\)", out)
    assert "numbers age, Yearly Income, balance" in out
    assert "categories products, region, job-title, 2nd card" in out
    assert "left out customer_id: texts of which most differ" in out
    assert "left out opened: dates" in out
    assert "empty has no value at all" in out


def test_the_project_file_is_valid_and_names_the_columns(bank):
    folder, _ = bank
    config = load_config(folder / "encore.yaml")
    assert config.model == "bank-customers"
    assert config.drift.labels == ("churned",)
    assert config.drift.ignore_features == ("customer_id", "opened", "remarks")
    assert config.warmup.exclude_features == ("churned",)
    assert config.evaluation.label_key == "churned_label"
    assert config.evaluation.slices == ((), ("2nd card",), ("region",), ("products",))


def test_the_editor_finds_the_json_schema_beside_the_project_file(bank, encore):
    folder, _ = bank
    first = (folder / "encore.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=encore.schema.json"
    schema = json.loads((folder / "encore.schema.json").read_text())
    assert schema == encore(folder, "schema", "config").json


def test_the_schema_has_the_types_that_tfx_gives_the_columns(bank):
    columns = read_columns(bank[0] / "schema.pbtxt")
    assert columns == {
        "customer_id": Column("customer_id", "BYTES", required=True),
        "opened": Column("opened", "BYTES", required=True),
        "age": Column("age", "INT", required=False),
        "Yearly Income": Column("Yearly Income", "FLOAT", required=False),
        "balance": Column("balance", "FLOAT", required=True),
        "products": Column("products", "INT", required=True),
        "region": Column("region", "BYTES", required=True),
        "job-title": Column("job-title", "BYTES", required=False),
        "remarks": Column("remarks", "BYTES", required=False),
        "2nd card": Column("2nd card", "BYTES", required=True),
        "churned": Column("churned", "BYTES", required=True),
    }


def test_the_schema_has_domains_for_few_values_only(bank):
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    schema = text_format.Parse((bank[0] / "schema.pbtxt").read_text(), schema_pb2.Schema())
    domains = {domain.name: set(domain.value) for domain in schema.string_domain}
    assert domains == {
        "region": {"North", "South", "West"},
        "job-title": set(JOBS),
        "2nd card": {"true", "false"},
        "churned": {"yes", "no"},
    }
    categorical = [f.name for f in schema.feature if f.int_domain.is_categorical]
    assert categorical == ["products"]


def test_the_data_pass_the_check_that_a_run_makes(bank):
    folder, _ = bank
    columns = read_columns(folder / "schema.pbtxt")
    assert read_span("data/span-{SPAN}/*.csv", folder, 1, columns).rows == 3000


def test_the_model_reads_as_if_a_person_had_formatted_it(bank):
    for arguments in (["check", "--select", "E,F,I,UP,B,SIM,RET"], ["format", "--check"]):
        ruff = [str(pathlib.Path(sys.executable).parent / "ruff"), *arguments, "--isolated"]
        done = subprocess.run(
            [*ruff, "--line-length", "100", str(bank[0] / "model.py")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def served(bank, tmp_path_factory):
    """The model's Transform graph made from the data, an untrained network, its signatures."""
    from tfx_encore.pipeline.quiet import hush

    hush()
    import apache_beam as beam
    import tensorflow_transform as tft
    import tensorflow_transform.beam as tft_beam
    from tensorflow_data_validation import load_schema_text
    from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils

    module = _load(bank[0] / "model.py")
    module.NUMBERS, module.BUCKETED = ("age", "Yearly Income"), ("balance",)
    schema = load_schema_text(str(bank[0] / "schema.pbtxt"))
    spec = schema_utils.schema_as_feature_spec(schema).feature_spec
    rows = _instances(bank[0], read_columns(bank[0] / "schema.pbtxt"))
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    folder = str(tmp_path_factory.mktemp("transform"))
    with (
        beam.Pipeline(runner="FnApiRunner") as pipeline,
        tft_beam.Context(temp_dir=str(tmp_path_factory.mktemp("temp"))),
    ):
        data = pipeline | beam.Create(rows)
        function = (data, metadata) | tft_beam.AnalyzeDataset(module.preprocessing_fn)
        _ = function | tft_beam.WriteTransformFn(folder)
    metadata_io.write_metadata(metadata, f"{folder}/{tft.TFTransformOutput.RAW_METADATA_DIR}")
    output = tft.TFTransformOutput(folder)
    sizes = {c: output.vocabulary_size_by_name(module._xf(c)) + 1 for c in module.CATEGORIES}
    network = module.build_network({"balance": module.BUCKETS + 1, **sizes}, (8,))
    model = module.ServedModel(network, output)
    return module, model.signatures()


def _load(file: pathlib.Path):
    spec = importlib.util.spec_from_file_location("written_by_init", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _instances(folder: pathlib.Path, columns: dict[str, Column]) -> list[dict]:
    parse = {"INT": int, "FLOAT": float, "BYTES": str.encode}
    with next((folder / "data/span-1").iterdir()).open(encoding="utf-8", newline="") as stream:
        return [
            {
                name: [parse[column.type](row[name])] if row[name] else []
                for name, column in columns.items()
                if row[name] or not column.required
            }
            for row, _ in zip(csv.DictReader(stream), range(300), strict=False)
        ]


def _example(**values) -> bytes:
    import tensorflow as tf

    kinds = {
        int: lambda v: tf.train.Feature(int64_list=tf.train.Int64List(value=[v])),
        float: lambda v: tf.train.Feature(float_list=tf.train.FloatList(value=[v])),
        str: lambda v: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode()])),
    }
    features = {name: kinds[type(value)](value) for name, value in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


ASKED = {"balance": 100.0, "products": 1, "region": "West", "2nd card": "true"}


def test_the_model_has_the_three_signatures(served):
    _, signatures = served
    inputs = {}
    for name, function in signatures.items():
        by_place, by_name = function.structured_input_signature
        inputs[name] = {spec.name for spec in by_place} | set(by_name)
    assert inputs == {
        "serving_default": {"examples"},
        "transform_features": {"examples"},
        "predict_raw": {
            "age", "Yearly_Income", "balance", "products", "region", "job_title", "f2nd_card",
        },
    }  # fmt: skip


def test_whoever_asks_need_not_know_the_label(served):
    import tensorflow as tf

    _, signatures = served
    example = tf.constant([_example(**ASKED)])
    (answer,) = signatures["serving_default"](examples=example)["probability"].numpy()
    assert 0 < answer[0] < 1
    transformed = signatures["transform_features"](examples=example)
    assert transformed["churned_label"].numpy().tolist() == [0]


def test_the_label_becomes_1_for_the_positive_value(served):
    import tensorflow as tf

    _, signatures = served
    examples = tf.constant([_example(churned=value, **ASKED) for value in ("yes", "no")])
    labels = signatures["transform_features"](examples=examples)["churned_label"]
    assert labels.numpy().tolist() == [1, 0]


def test_raw_tensors_and_examples_get_equal_answers_also_where_values_are_missing(served):
    import tensorflow as tf

    module, signatures = served
    nothing = {"age": module.MISSING_INT, "Yearly_Income": math.nan, "job_title": ""}
    something = {"age": 44, "Yearly_Income": 1e4, "job_title": JOBS[2]}
    plain = {module._plain(name): value for name, value in ASKED.items()}
    rows = [{**plain, **nothing}, {**plain, **something}]
    dtypes = {
        n: s.dtype for n, s in signatures["predict_raw"].structured_input_signature[1].items()
    }
    raw = {name: tf.constant([row[name] for row in rows], dtype) for name, dtype in dtypes.items()}
    present = {"age": 44, "Yearly Income": 1e4, "job-title": JOBS[2]}
    examples = tf.constant([_example(**ASKED), _example(**ASKED, **present)])
    by_tensor = signatures["predict_raw"](**raw)["probability"].numpy()
    by_example = signatures["serving_default"](examples=examples)["probability"].numpy()
    assert by_tensor.tolist() == by_example.tolist()
    assert by_tensor[0] != by_tensor[1]


def test_numbers_in_one_bucket_become_equal_and_far_ones_are_clipped(served):
    import tensorflow as tf

    module, signatures = served
    rows = [
        {**ASKED, "balance": 1900.0, "age": 10**6},
        {**ASKED, "balance": 1900.5, "age": 10**9},
        {**ASKED, "balance": 9e9, "age": 44},
    ]
    examples = tf.constant([_example(**row) for row in rows])
    transformed = signatures["transform_features"](examples=examples)
    buckets = transformed["balance_xf"].numpy()
    assert buckets[0] == buckets[1] < buckets[2] == module.BUCKETS - 1
    ages = transformed["age_xf"].numpy()
    assert ages[0] == ages[1] == module.FURTHEST
    assert transformed["Yearly_Income_xf"].numpy().tolist() == [0, 0, 0]


@pytest.mark.parametrize(("numbers", "sizes"), [(("age",), {}), ((), {"region": 4})])
def test_the_network_can_do_with_one_column_of_either_kind(served, monkeypatch, numbers, sizes):
    module, _ = served
    monkeypatch.setattr(module, "NUMBERS", numbers)
    network = module.build_network(sizes, (4,))
    assert [tensor.name for tensor in network.inputs] == [module._xf(c) for c in (*numbers, *sizes)]
    assert network.output_shape == (None, 1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_project_runs_unchanged_and_again_on_the_next_delivery(bank, encore):
    folder, _ = bank
    (first,) = encore(folder, "run", "--json").json
    assert (first["state"], first["version"], first["span"]) == ("pushed", 1, 1)
    assert first["certificate"]["row_independent"]
    (folder / "data/span-2").mkdir()
    write_bank(folder / "data/span-2/new.csv", seed=2)
    (second,) = encore(folder, "run", "--json").json
    assert (second["state"], second["version"], second["span"]) == ("pushed", 2, 2)
    outcomes = {decision["gate"]: decision["outcome"] for decision in second["decisions"]}
    assert outcomes["drift"] == "OK"
    assert outcomes["sliced_evaluation"] in ("OK", "WARN")
    overall = [
        e
        for decision in second["decisions"]
        for e in decision["evidence"]
        if e["subject"] == "slice:overall" and e["measure"] == "auc"
    ]
    assert overall[0]["value"] > 0.7
    assert encore(folder, "doctor").code == 0


# --- what is refused; none of this needs TFDV ---------------------------------------------------


@pytest.fixture
def refused(tmp_path):
    """Runs init where it must fail; returns what is said, and checks that nothing is left."""

    def run(content: str | bytes | None, kind=DataError, **asked) -> str:
        file = tmp_path / "in" / "data.csv"
        file.parent.mkdir(exist_ok=True)
        if content is not None:
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        request = InitRequest(
            **{"folder": tmp_path / "out" / "project", "csv": file, "label": "y", **asked}
        )
        with pytest.raises(kind) as caught:
            init_project(request)
        assert not (tmp_path / "out").exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return run


def _table(labels, header="x,y", rows=60) -> str:
    lines = [f"{number / 4},{labels[number % len(labels)]}" for number in range(rows)]
    return "\n".join([header, *lines]) + "\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "data.csv: cannot be read: No such file"),
        ("", "data.csv: empty"),
        ("x,y\n", "data.csv: a header, but no rows"),
        (_table("01", rows=20), "20 rows; at least 50 are needed"),
        (_table("01", header="x,why"), "no column 'y'; valid: x, why"),
        (_table("0"), "label 'y' is always '0'; there is nothing to learn"),
        (_table("012"), "label 'y' has 3 values ('0', '1', '2'); binary classification"),
        (_table([f"{n}.5" for n in range(20)]), "label 'y' has 20 values ('0.5', '1.5',"),
        (_table(["yes", "no"]), "label 'y' has the values 'no' and 'yes', say which one"),
        (_table(["1", "2"]), "--positive '2'"),
        (_table(["1", "0", ""]), "label 'y' has no value in 20 rows; remove those rows"),
        (_table("01", header="y,y"), "column 'y' appears twice"),
        (_table("01", header="x;y").replace(",", ";"), "columns are separated by ';'"),
        (_table("01", header=",y"), "column 1 has no name in the header"),
        (_table("01", header='"a,b",y'), "cannot read a column whose name holds a comma"),
        (_table("01", header="self,y"), "takes no column named 'self'"),
        (_table("01") + "1.5\n", "line 62: 1 values for 2 columns"),
        (_table("01") + "NaN,1\n", "line 62: x is 'NaN', which is no FLOAT"),
        (_table("01").encode() + b"caf\xe9,1\n", "line 62: byte 0xe9 is not UTF-8"),
        ("y\n" + "0\n1\n" * 40, "no column is left to learn from: only the label"),
        ("x,y\n" + "a,0\na,1\n" * 40, "no column is left to learn from: x (always the same value)"),
        ("a b,a-b,y\n" + "1.5,2.5,0\n2.5,1.5,1\n" * 40, "columns 'a b' and 'a-b' are one name"),
    ],
)  # fmt: skip
def test_a_csv_that_makes_no_project_is_refused_with_what_to_do(refused, content, said):
    assert said in refused(content)


def test_a_positive_value_that_the_label_lacks_is_refused_with_its_values(refused):
    said = refused(_table(["yes", "no"]), positive="Yes")
    assert "has the values 'no' and 'yes', not 'Yes'" in said


def test_a_model_name_that_tf_serving_would_not_take_is_refused(refused):
    assert "--model 'a b'" in refused(_table("01"), kind=ConfigError, model="a b")


def test_a_failure_of_tfdv_leaves_nothing_behind(refused, monkeypatch):
    def fail(*_):
        raise EncoreError("inferring failed")

    monkeypatch.setattr(init_schema, "infer_schema", fail)
    assert refused(_table("01"), kind=EncoreError) == "inferring failed"


def _without_tfdv(monkeypatch) -> None:
    def schema(_file, _profiles, columns):
        required = "presence { min_fraction: 1.0 }"
        lines = [
            f'feature {{ name: "{c.name}" type: {c.type} {required if c.required else ""} }}'
            for c in columns.values()
        ]
        return "\n".join(lines)

    monkeypatch.setattr(init_schema, "infer_schema", schema)


def test_a_full_disk_while_copying_leaves_nothing_behind(refused, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    _without_tfdv(monkeypatch)
    monkeypatch.setattr(init_module.shutil, "copyfileobj", full)
    assert "cannot be written: No space left on device" in refused(_table("01"), kind=EncoreError)


@pytest.fixture
def csv_file(tmp_path):
    file = tmp_path / "data.csv"
    file.write_text(_table("01"))
    return file


@pytest.mark.parametrize("name", ["encore.yaml", "schema.pbtxt", "model.py", "data/span-1"])
def test_a_folder_with_a_project_is_refused_with_the_file_that_is_there(tmp_path, csv_file, name):
    target = tmp_path / "project" / name
    target.parent.mkdir(parents=True)
    target.write_text("mine")
    with pytest.raises(ConfigError, match="is there already") as caught:
        init_project(InitRequest(tmp_path / "project", csv_file, "y"))
    assert str(target) in str(caught.value)
    assert target.read_text() == "mine"
    assert [p for p in (tmp_path / "project").rglob("*") if p.is_file()] == [target]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path, csv_file):
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        init_project(InitRequest(csv_file, csv_file, "y"))


def test_a_folder_with_other_things_keeps_them(tmp_path, csv_file, monkeypatch):
    _without_tfdv(monkeypatch)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/notes").write_text("mine")
    (tmp_path / ".gitignore").write_text("mine")
    made = init_project(InitRequest(tmp_path, csv_file, "y", span=3))
    assert made.files[0] == ".gitignore"
    assert (tmp_path / ".gitignore").read_text() == (tmp_path / "data/notes").read_text() == "mine"
    assert load_config(tmp_path / "encore.yaml").model == "data"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".gitignore", "data", "data.csv", "encore.schema.json", "encore.yaml", "model.py",
        "schema.pbtxt",
    ]  # fmt: skip
    assert (tmp_path / "data/span-3/data.csv").read_text() == csv_file.read_text()


def test_a_move_that_fails_midway_is_taken_back(tmp_path, csv_file, monkeypatch):
    _without_tfdv(monkeypatch)
    (tmp_path / "project").mkdir()
    rename, moved = pathlib.Path.rename, []

    def third_time_unlucky(path, target):
        moved.append(target)
        if len(moved) == 3:
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(pathlib.Path, "rename", third_time_unlucky)
    with pytest.raises(EncoreError, match="No space left"):
        init_project(InitRequest(tmp_path / "project", csv_file, "y"))
    assert len(moved) == 3
    assert list((tmp_path / "project").iterdir()) == []


def test_a_header_that_tfx_would_misread_is_written_anew_and_the_rows_stay(tmp_path, monkeypatch):
    _without_tfdv(monkeypatch)
    rows = _table("01").split("\n", 1)[1]
    (tmp_path / "excel.csv").write_bytes(b'\xef\xbb\xbf"x (km)", "y"\r\n' + rows.encode())
    init_project(InitRequest(tmp_path / "project", tmp_path / "excel.csv", "y"))
    written = tmp_path / "project/data/span-1/excel.csv"
    assert written.read_bytes() == b"x (km),y\n" + rows.encode()
    columns = read_columns(tmp_path / "project/schema.pbtxt")
    assert read_span("data/span-{SPAN}/*.csv", tmp_path / "project", 1, columns).rows == 60


def test_names_that_mean_something_to_yaml_or_python_stay_names(tmp_path, monkeypatch):
    _without_tfdv(monkeypatch)
    odd = ["no", "12", "a: b", "#c", "{d}", "größe", "$e", "it's"]
    header = ",".join([*odd, "y"])
    lines = [",".join(["pqr"[(n + i) % 3] for i in range(8)] + [str(n % 2)]) for n in range(90)]
    (tmp_path / "odd.csv").write_text("\n".join([header, *lines]) + "\n")
    made = init_project(InitRequest(tmp_path / "project", tmp_path / "odd.csv", "y"))
    assert made.roles.categories == tuple(odd)
    source = (tmp_path / "project/model.py").read_text()
    scope: dict = {}
    exec(source[source.index("NUMBERS =") : source.index("FURTHEST")], scope)
    assert scope["CATEGORIES"] == tuple(odd)
    config = load_config(tmp_path / "project/encore.yaml")
    assert {n for names in config.evaluation.slices for n in names} <= set(odd)


# --- what becomes of a column -------------------------------------------------------------------


def _roles(folder: pathlib.Path, columns: dict[str, list], labels=("0", "1"), **asked):
    rows = max(map(len, columns.values()))
    columns = {**columns, "y": [labels[n % len(labels)] for n in range(rows)]}
    with (folder / "a.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([columns, *zip(*columns.values(), strict=True)])
    profiles = profile_csv(folder / "a.csv")
    return profiles, choose_roles(profiles, "y", asked.get("positive"), source="a.csv")


N = 400


@pytest.mark.parametrize(
    ("cells", "role"),
    [
        ([n / 7 for n in range(N)], "number"),
        ([n % 73 for n in range(N)], "number"),
        ([n % 20 for n in range(N)], "category"),
        ([n % 21 for n in range(N)], "number"),
        ([n % 2 for n in range(N)], "category"),
        (["abcdef"[n % 6] for n in range(N)], "category"),
        ([f"city {n % 150}" for n in range(N)], "category"),
        ([n % 5 if n % 3 else "" for n in range(N)], "category"),
        (["7" for _ in range(N)], "always the same value"),
        (list(range(N)), "an identifier or a time"),
        ([f"C-{n}" for n in range(N)], "an identifier or free text"),
        ([f"2024-01-{1 + n % 28:02d}" for n in range(N)], "dates"),
        ([f"{1 + n % 28}/12/2024 08:00" for n in range(N)], "dates"),
        (["" for _ in range(N)], "unknown"),
    ],
)
def test_a_column_is_a_number_a_category_or_left_out_with_the_reason(tmp_path, cells, role):
    _, roles = _roles(tmp_path, {"x": [n / 3 for n in range(N)], "c": cells})
    found = (
        ("number" if "c" in roles.numbers else "")
        or ("category" if "c" in roles.categories else "")
        or ("unknown" if "c" in roles.unknown else roles.left_out.get("c", ""))
    )
    assert role in found


@pytest.mark.parametrize(
    ("labels", "asked", "positive"),
    [
        (("0", "1"), None, 1),
        (("0", "1"), "0", 0),
        (("0.0", "1.0"), None, 1.0),
        (("False", "True"), None, "True"),
        (("TRUE", "FALSE"), None, "TRUE"),
        (("no", "yes"), "yes", "yes"),
        (("1", "2"), "2", 2),
        (("-1", "1", "1"), "-1", -1),
    ],
)
def test_the_positive_value_is_found_or_asked_for(tmp_path, labels, asked, positive):
    cells = [n / 3 for n in range(60)]
    _, roles = _roles(tmp_path, {"x": cells}, labels=labels, positive=asked)
    assert (roles.label.positive, type(roles.label.positive)) == (positive, type(positive))
    assert roles.label.share == pytest.approx(1 / len(labels))


def test_slices_are_the_categories_with_the_fewest_values(tmp_path):
    columns = {f"c{k}": [f"v{n % k}" for n in range(N)] for k in (13, 12, 5, 3, 2)}
    profiles, roles = _roles(tmp_path, columns)
    assert slices(profiles, roles) == ("c2", "c3", "c5")


def test_a_column_is_required_if_every_row_has_a_value(tmp_path):
    columns = {"a": [n / 3 for n in range(N)], "b": ["", *(n / 3 for n in range(N - 1))]}
    profiles, roles = _roles(tmp_path, columns)
    required = {n: c.required for n, c in schema_columns(profiles, roles.unknown).items()}
    assert required == {"a": True, "b": False, "y": True}


def test_what_may_go_wrong_with_the_next_data_is_noted(tmp_path):
    columns = {
        "charges": [n / 3 if n % 40 else " " for n in range(N)],
        "whole": ["0.5", *range(1, N)],
        "nothing": [""] * N,
        "fine": [n / 3 for n in range(N)],
    }
    _, roles = _roles(tmp_path, columns)
    charges, whole, nothing = roles.notes
    assert "charges is text because of 10 of 400 values (' ')" in charges
    assert "whole has a decimal point in 1 of 400 values only" in whole
    assert "nothing has no value at all" in nothing
