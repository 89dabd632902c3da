"""A SavedModel in this process: what is refused at load, what a session does, what stays behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.models.local_model import LocalLoader


@pytest.fixture
def copied(small_model, tmp_path):
    """A copy of the SavedModel that a test may damage."""
    return Path(shutil.copytree(small_model, tmp_path / "copy"))


def run(work, **options):
    """Runs a coroutine function on a loader."""

    async def main():
        loader = LocalLoader(intra_op=1, **options)
        try:
            return await work(loader)
        finally:
            loader.close()

    return asyncio.run(main())


def load_error(path):
    async def work(loader):
        with pytest.raises(ServingError) as caught:
            await loader.load("small", 1, str(path))
        return caught.value

    error = run(work)
    assert "\n" not in error.message
    assert str(path) in error.message
    return error


def save_tf1(path, saved=("a", "b"), tag="serve"):
    """A SavedModel as TensorFlow 1 wrote it: y = a * x + b; `saved` are the variables kept."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None], name="x")
        kept = {
            name: tf.compat.v1.get_variable(name, initializer=value, use_resource=True)
            for name, value in (("a", 2.0), ("b", 1.0))
        }
        y = tf.identity(kept["a"] * x + kept["b"], name="y")
        session.run(tf.compat.v1.global_variables_initializer())
        builder = tf.compat.v1.saved_model.Builder(str(path))
        info = tf.compat.v1.saved_model.build_tensor_info
        signature = tf.compat.v1.saved_model.build_signature_def(
            {"x": info(x)}, {"y": info(y), "again": info(y)}, "tensorflow/serving/predict"
        )
        saver = tf.compat.v1.train.Saver({name: kept[name] for name in saved})
        builder.add_meta_graph_and_variables(
            session, [tag], {"serving_default": signature}, saver=saver
        )
        builder.save()
    return path


def test_a_model_of_tensorflow_1_is_served(tmp_path):
    async def work(loader):
        model = await loader.load("old", 1, str(save_tf1(tmp_path / "1")))
        found = await model.run("serving_default", {"x": np.float32([1, 2])}, ("y", "again"))
        await model.close()
        return found

    found = run(work)
    assert found["y"].tolist() == found["again"].tolist() == [3.0, 5.0]


def test_nothing_there(tmp_path):
    assert load_error(tmp_path / "none").code == Code.NOT_FOUND
    assert load_error(tmp_path).code == Code.NOT_FOUND


def test_no_graph_tagged_serve(tmp_path):
    error = load_error(save_tf1(tmp_path / "1", tag="train"))
    assert error.code == Code.NOT_FOUND
    assert "train" in error.message


def test_a_graph_that_is_cut_short(copied):
    file = copied / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:1000])
    assert load_error(copied).code == Code.DATA_LOSS


@pytest.mark.parametrize("name", ["variables.index", "variables.data-00000-of-00001"])
def test_variables_that_are_not_copied_yet(copied, name):
    (copied / "variables" / name).unlink()
    load_error(copied)


def test_variables_that_are_damaged(copied):
    file = copied / "variables" / "variables.data-00000-of-00001"
    file.write_bytes(bytes(len(file.read_bytes())))
    assert load_error(copied).code == Code.DATA_LOSS


def test_an_asset_that_is_missing(copied):
    (copied / "assets" / "words.txt").unlink()
    assert "words.txt" in load_error(copied).message


def test_variables_that_are_read_but_never_restored(tmp_path):
    error = load_error(save_tf1(tmp_path / "1", saved=("a",)))
    assert error.code == Code.FAILED_PRECONDITION
    assert "the variables b are read but never restored" in error.message


@pytest.mark.parametrize("example", [b"abc", b"\xffabc"])
def test_what_an_operation_refuses_is_said_in_tensorflows_words(small_model, example):
    async def work(loader):
        model = await loader.load("small", 1, small_model)
        with pytest.raises(ServingError) as caught:
            await model.run("examples", {"examples": np.array([example], object)}, ("score",))
        await model.close()
        return caught.value

    error = run(work)
    assert error.code == Code.INVALID_ARGUMENT
    assert error.message.startswith("Could not parse example input, value: ")
    assert "ParseExampleV2" in error.message
    assert "File " not in error.message
    assert "Traceback" not in error.message


def test_the_wrong_dtype_is_refused_as_by_a_session(small_model, make_inputs):
    async def work(loader):
        model = await loader.load("small", 1, small_model)
        given = make_inputs()
        wrong = {**given, "x": given["x"].astype(np.float64)}
        with pytest.raises(ServingError) as caught:
            await model.run("serving_default", wrong, ("score",))
        await model.close()
        return caught.value.message

    assert "Type mismatch: actual double vs. expect float" in run(work)


def test_numbers_of_the_other_byte_order_are_read_right(small_model, make_inputs):
    async def work(loader):
        model = await loader.load("small", 1, small_model)
        given = make_inputs()
        swapped = {**given, "x": given["x"].astype(">f4")}
        one = await model.run("serving_default", given, ("score",))
        two = await model.run("serving_default", swapped, ("score",))
        await model.close()
        return one["score"].tolist(), two["score"].tolist()

    one, two = run(work)
    assert one == two


def test_every_output_filter_is_answered_however_many_there_are(tmp_path):
    names = [f"y{number}" for number in range(7)]
    function = tf.function(
        lambda x: {name: x + float(at) for at, name in enumerate(names)},
        input_signature=[tf.TensorSpec([None], tf.float32, name="x")],
    )
    module = tf.Module()
    tf.saved_model.save(module, str(tmp_path), signatures=function.get_concrete_function())
    filters = [c for size in range(1, 8) for c in itertools.combinations(names, size)]

    async def work(loader):
        model = await loader.load("wide", 1, str(tmp_path))
        for wanted in filters:
            found = await model.run("serving_default", {"x": np.float32([1])}, wanted)
            assert {key: value.tolist() for key, value in found.items()} == {
                name: [1.0 + names.index(name)] for name in wanted
            }
        compiled = len(model._calls)
        await model.close()
        return compiled

    assert len(filters) == 127
    assert run(work) <= 65


def test_a_slow_call_leaves_the_event_loop_free(small_model):
    async def work(loader):
        model = await loader.load("small", 1, small_model)
        slow = asyncio.create_task(model.run("slow", {"x": np.ones((1, 2), np.float32)}, ("y",)))
        steps = 0
        while not slow.done():
            await asyncio.sleep(0)
            steps += 1
        await model.close()
        return steps

    assert run(work) > 1000


def test_a_closed_model_is_unavailable_and_closing_twice_is_fine(small_model, make_inputs):
    async def work(loader):
        model = await loader.load("small", 1, small_model)
        await model.close()
        await model.close()
        with pytest.raises(ServingError) as caught:
            await model.run("serving_default", make_inputs(), ("score",))
        return caught.value.code

    assert run(work) == Code.UNAVAILABLE


def test_closing_lets_a_call_under_way_end(small_model):
    async def work(loader):
        model = await loader.load("small", 1, small_model)
        slow = asyncio.create_task(model.run("slow", {"x": np.ones((1, 2), np.float32)}, ("y",)))
        await asyncio.sleep(0.05)
        await model.close()
        return (await asyncio.gather(slow, return_exceptions=True))[0]

    ended = run(work)
    assert isinstance(ended, (dict, ServingError))


def test_a_load_that_nobody_waits_for_is_let_go(small_model):
    async def work(loader):
        loading = asyncio.create_task(loader.load("small", 1, small_model))
        await asyncio.sleep(0)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        model = await loader.load("small", 2, small_model)  # one at a time: the first has ended
        await model.close()
        return model.version

    assert run(work) == 2


def test_memory_is_let_go_over_many_loads(tmp_path):
    class Heavy(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(tf.random.normal([1024, 4096]))  # 16 MiB

    heavy = Heavy()
    function = tf.function(
        lambda x: {"y": x + heavy.weights[0, 0]},
        input_signature=[tf.TensorSpec([None], tf.float32, name="x")],
    )
    tf.saved_model.save(heavy, str(tmp_path), signatures=function.get_concrete_function())

    async def work(loader):
        sizes = []
        for _ in range(25):
            model = await loader.load("heavy", 1, str(tmp_path))
            await model.run("serving_default", {"x": np.float32([1])}, ("y",))
            await model.close()
            sizes.append(resident_mib())
        return sizes

    gc.disable()  # what only a full collection would free counts as kept
    try:
        sizes = run(work)
    finally:
        gc.enable()
    # A process that did much else keeps some in pieces; 20 x 16 MiB if each load were kept.
    assert max(sizes[5:]) - sizes[4] < 200, sizes


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20
