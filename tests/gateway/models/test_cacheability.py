"""How each signature's answers may be cached, judged from its graph and from its answers."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tfx_encore.cache.rows import decode_row, encode_row
from tfx_encore.cache.tf_example import ExampleRows
from tfx_encore.gateway.errors import Code, ServingError, invalid
from tfx_encore.gateway.models import row_check
from tfx_encore.gateway.models.cache_config import CacheSetting, Wanted
from tfx_encore.gateway.models.cacheability import plans
from tfx_encore.gateway.models.local_model import LocalLoader
from tfx_encore.gateway.models.warmup import warmup_file
from tfx_encore.gateway.tensor_proto import to_proto
from tfx_encore.schemas.release import Certificate

AUTO = CacheSetting()


def certificate(**changes):
    values = {
        "signature": "serving_default",
        "row_independent": True,
        "deterministic": True,
        "rows_checked": 500,
        "message": "500 rows agree",
    }
    return Certificate(**{**values, **changes})


def judge(model, path, certificate=None, wanted=AUTO):
    return asyncio.run(plans(model, str(path), certificate, wanted))


@pytest.fixture(scope="module")
def planned(small_model):
    """The plans of every signature of the small model, without a certificate."""

    async def main():
        loader = LocalLoader(intra_op=1)
        model = await loader.load("small", 1, small_model)
        found = await plans(model, small_model, None, AUTO)
        await model.close()
        loader.close()
        return found

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("signature", "mode", "reason"),
    [
        ("serving_default", "rows", "32 rows: the same bytes"),
        ("examples", "rows", "rows: the same bytes"),
        ("regress", "rows", "rows: the same bytes"),
        ("classify", "rows", "rows: the same bytes"),
        ("mean", "requests", "beside it in a batch of"),
        ("total", "requests", "output 'total' of shape [] has no dimension for the rows"),
        ("scaled", "requests", "input 'factor' of shape [] has no dimension for the rows"),
        ("constant", "requests", "one and the same answer"),
        ("random", "off", "operations that may differ each time: RandomUniform"),
        ("counting", "off", "operations that may differ each time: AssignAddVariableOp"),
        ("packed", "off", "add a warm-up file"),
    ],
)
def test_each_signature_is_judged_by_its_nature(planned, signature, mode, reason):
    plan = planned[signature]
    assert plan.mode == mode, plan.reason
    assert reason in plan.reason
    assert (plan.spec is not None) == (mode == "rows")


def test_every_signature_has_a_plan(planned, small_model):
    assert not any(name.startswith("__") for name in planned)
    assert len(planned) == 12


def test_the_rows_are_those_that_the_graph_reads(planned):
    spec = planned["examples"].spec
    made = example_pb2.Example()
    made.features.feature["x"].float_list.value.extend([1.0, 2.0])
    bare = encode_row(ExampleRows(spec).row(made.SerializeToString()))
    made.features.feature["unread"].float_list.value.append(9.0)
    made.features.feature["trip"].bytes_list.value.append(b"1234")
    assert encode_row(ExampleRows(spec).row(made.SerializeToString())) == bare
    assert set(decode_row(bare)) == {"x", "word"}


def test_a_certificate_spares_the_check_of_its_signature(small_model, make_fake_small):
    model = make_fake_small()
    found = judge(model, small_model, certificate())
    assert found["serving_default"].mode == "rows"
    assert found["serving_default"].reason == "certified: 500 rows agree"
    assert found["serving_default"].spec.form == "tensors"
    assert "serving_default" not in {name for name, _, _ in model.calls}
    assert "total" in {name for name, _, _ in model.calls}


def test_a_certificate_that_refuses_is_believed(small_model, make_fake_small):
    moved = certificate(row_independent=False, message="the mean changed it")
    found = judge(make_fake_small(), small_model, moved)["serving_default"]
    assert (found.mode, found.reason) == ("requests", "certificate: the mean changed it")
    dice = certificate(row_independent=False, deterministic=False, message="dice")
    found = judge(make_fake_small(), small_model, dice)["serving_default"]
    assert (found.mode, found.reason) == ("off", "certificate: dice")


def test_a_certificate_of_another_signature_says_nothing(small_model, make_fake_small):
    model = make_fake_small()
    found = judge(model, small_model, certificate(signature="total"))
    assert found["serving_default"].mode == "rows"
    assert found["serving_default"].reason.startswith("32 rows")
    assert found["total"].mode == "requests"  # it has no rows, whatever was certified


def test_a_certificate_does_not_outweigh_the_graph(small_model, fake_model):
    takes, gives = {"x": ("FLOAT", (-1, 2))}, {"y": ("FLOAT", (-1,))}
    model = fake_model(random=(takes, gives, lambda x: {"y": x[:, 0]}))
    found = judge(model, small_model, certificate(signature="random"))
    assert found["random"].mode == "off"


@pytest.mark.parametrize("mode", ["rows", "requests", "off"])
def test_the_configuration_overrides_and_nothing_is_computed(small_model, make_fake_small, mode):
    model = make_fake_small()
    wanted = CacheSetting(Wanted("off"), {"serving_default": Wanted(mode)})
    found = judge(model, small_model, certificate(deterministic=False), wanted)
    assert found["serving_default"].mode == mode
    assert found["serving_default"].reason == f"{mode} by configuration"
    assert found["total"].mode == "off"
    assert model.calls == []


def test_rows_by_configuration_on_a_stateful_signature_is_warned_of(
    small_model, fake_model, caplog
):
    takes, gives = {"x": ("FLOAT", (-1, 2))}, {"y": ("FLOAT", (-1,))}
    model = fake_model(random=(takes, gives, lambda x: {"y": x[:, 0]}))
    with caplog.at_level(logging.WARNING, "tfx_encore.gateway"):
        found = judge(model, small_model, wanted=CacheSetting(Wanted("rows")))
    assert found["random"].mode == "rows"
    assert "answers may differ each time" in caplog.text
    assert "signature=random operations=RandomUniform" in caplog.text


def test_rows_by_configuration_where_there_are_none_become_requests(
    small_model, make_fake_small, caplog
):
    found = judge(make_fake_small(), small_model, wanted=CacheSetting(Wanted("rows")))
    assert found["total"].mode == "requests"
    assert "has no dimension for the rows" in found["total"].reason
    assert "signature=total" in caplog.text


def test_without_the_files_auto_is_off_and_rows_are_the_whole_inputs(tmp_path, make_fake_small):
    found = judge(make_fake_small(), tmp_path)["serving_default"]
    assert found.mode == "off"
    assert found.reason.startswith("the graph cannot be read: ")
    wanted = CacheSetting(Wanted("rows"))
    found = judge(make_fake_small(), tmp_path, wanted=wanted)["serving_default"]
    assert found.mode == "rows"
    assert [(f.name, f.dtype, f.shape) for f in found.spec.key_features] == [
        ("word", "string", ()),
        ("x", "float32", (2,)),
    ]


def signature_of(function):
    """A fake `serving_default` of the small model's shape with another function of its scores."""
    takes = {"x": ("FLOAT", (-1, 2)), "word": ("STRING", (-1,))}
    gives = {"score": ("FLOAT", (-1,))}
    return {"serving_default": (takes, gives, lambda x, word: {"score": function(x)})}


def test_answers_that_differ_each_time_are_not_cached(small_model, fake_model):
    rng = np.random.default_rng(0)
    model = fake_model(**signature_of(lambda x: x[:, 0] + rng.normal(size=len(x)).astype("f")))
    found = judge(model, small_model)["serving_default"]
    assert found.mode == "off"
    assert "computing the same batch again changed" in found.reason


def test_answers_that_look_at_other_rows_are_cached_by_requests(small_model, fake_model):
    model = fake_model(**signature_of(lambda x: x[:, 0] - x[:, 0].mean()))
    found = judge(model, small_model)["serving_default"]
    assert found.mode == "requests"
    assert "beside it" in found.reason


def test_answers_that_have_not_a_row_each_are_cached_by_requests(small_model, fake_model):
    model = fake_model(**signature_of(lambda x: x[:1, 0]))
    found = judge(model, small_model)["serving_default"]
    assert found.mode == "requests"
    assert "output 'score' has shape [1] for" in found.reason


@pytest.mark.parametrize("error", [RuntimeError("surprise"), KeyError("x"), MemoryError()])
def test_whatever_goes_wrong_the_load_goes_on(small_model, fake_model, error):
    class Broken(fake_model):
        async def run(self, signature, inputs, outputs):
            raise error

    found = judge(Broken(**signature_of(None)), small_model)["serving_default"]
    assert found.mode == "off"
    assert found.reason.startswith("the check failed: ")


def test_a_model_that_refuses_everything_is_off_with_its_words(small_model, fake_model):
    class Refusing(fake_model):
        async def run(self, signature, inputs, outputs):
            raise ServingError(Code.UNAVAILABLE, "not\ntoday")

    found = judge(Refusing(**signature_of(None)), small_model)["serving_default"]
    assert found.mode == "off"
    assert "the model refuses what was tried (not today)" in found.reason


def test_rows_that_the_model_refuses_are_left_out(small_model, fake_model):
    def only_positive(x):
        if (x[:, 0] < 0).any():
            raise invalid("negative")
        return x[:, 0]

    found = judge(fake_model(**signature_of(only_positive)), small_model)["serving_default"]
    assert found.mode == "rows", found.reason


def test_a_model_that_takes_too_long_is_not_checked_to_the_end(
    small_model, make_fake_small, monkeypatch
):
    monkeypatch.setattr(row_check, "_LIMIT_SECONDS", -1.0)
    found = judge(make_fake_small(), small_model)["serving_default"]
    assert found.mode == "off"
    assert "the check took longer than" in found.reason


def test_a_slow_model_is_checked_with_few_rows(small_model, make_fake_small, monkeypatch):
    monkeypatch.setattr(row_check, "_BUDGET_SECONDS", 0.0)
    model = make_fake_small()
    found = judge(model, small_model)["serving_default"]
    assert found.reason.startswith("2 rows: ")
    assert sum(name == "serving_default" for name, _, _ in model.calls) < 20


def test_the_rows_of_the_warm_up_file_are_tried_first(small_model, make_fake_small, tmp_path):
    marked = np.float32([[101, 1], [102, 2], [103, 3]])
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.inputs["x"].CopyFrom(to_proto(marked))
    words = np.array([b"red", b"green", b"blue"], dtype=object)
    log.predict_log.request.inputs["word"].CopyFrom(to_proto(words))
    path = tmp_path / "1"
    _link_graph(small_model, path)
    _write_warmup(path, [log])
    model = make_fake_small()
    found = judge(model, path)["serving_default"]
    assert found.mode == "rows"
    assert found.reason.startswith("3 rows: ")
    asked = [inputs["x"][:, 0] for name, inputs, _ in model.calls if name == "serving_default"]
    assert set(np.concatenate(asked).tolist()) == {101.0, 102.0, 103.0}


def test_a_damaged_warm_up_file_does_not_stop_the_check(small_model, make_fake_small, tmp_path):
    path = tmp_path / "1"
    _link_graph(small_model, path)
    _write_warmup(path, []).write_bytes(b"x" * 100)
    found = judge(make_fake_small(), path)["serving_default"]
    assert found.reason.startswith("32 rows: ")


def test_the_same_rows_are_made_up_in_each_run(small_model, make_fake_small):
    first, second = make_fake_small(), make_fake_small()
    judge(first, small_model)
    judge(second, small_model)
    # Signatures come in the order of a protobuf map, which is another each time.
    calls = [sorted(model.calls, key=lambda call: call[0]) for model in (first, second)]
    for (name_of_one, one, _), (name_of_two, two, _) in zip(*calls, strict=True):
        assert name_of_one == name_of_two
        assert all(one[name].tolist() == two[name].tolist() for name in one)


def test_made_up_words_are_those_of_the_models_vocabulary(small_model, make_fake_small):
    model = make_fake_small()
    judge(model, small_model)
    asked = {word for _, inputs, _ in model.calls for word in inputs.get("word", ())}
    assert {b"red", b"green", b"blue"} <= asked


def _link_graph(source, path):
    path.mkdir()
    (path / "saved_model.pb").symlink_to(f"{source}/saved_model.pb")


def _write_warmup(path, logs):
    file = warmup_file(str(path))
    file.parent.mkdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())
    return file
