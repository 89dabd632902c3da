"""Transformed keys are used only where a version's own snapshot does not contradict them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tfx_encore.cache.answers import encode_answer
from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.rows import cell, encode_row
from tfx_encore.cache.snapshot import SnapshotWriter
from tfx_encore.cache.snapshot_block import Entry, block_of
from tfx_encore.gateway.transformed import TransformedKeys

SPEC = SignatureSpec("bucketed", "tensors", "", (FeatureSpec("miles", "tensor", "float32"),))


def snapshot(folder, answers):
    folder.mkdir()
    writer = SnapshotWriter(str(folder))
    maker = KeyMaker("f", "bucketed")
    entries = []
    for miles, bucket in answers:
        row = encode_row({"miles": cell(np.float32(miles))})
        answer = encode_answer({"bucket": cell(np.int32(bucket))})
        entries.append(Entry(maker.key(row), 0, 1, row, 1.0, answer))
    writer.write(block_of(entries))
    writer.close("f", [SPEC])
    return folder


async def learnt(models, where):
    keys = TransformedKeys()
    await keys.learn("f", str(models / "1"), ["bucketed", "serving_default"], where)
    return keys


def test_what_the_graph_shows_is_used_without_a_snapshot(models):
    keys = asyncio.run(learnt(models, None))
    assert keys.features("f", "bucketed") == ("miles",)
    assert keys.features("f", "serving_default") == ()


@pytest.mark.parametrize(
    ("answers", "features"),
    [
        ([(2.0, 1), (3.0, 1), (7.0, 2)], ("miles",)),
        ([(2.0, 1), (3.0, 9), (7.0, 2)], ()),
    ],
)
def test_two_answers_for_one_transformed_row_turn_them_off(models, tmp_path, answers, features):
    keys = asyncio.run(learnt(models, snapshot(tmp_path / "snapshot", answers)))
    assert keys.features("f", "bucketed") == features
    row = encode_row({"miles": cell(np.float32(2.0))})
    assert (keys.of("f")("bucketed", row) is not None) == bool(features)


def test_a_damaged_snapshot_decides_nothing(models, tmp_path):
    where = snapshot(tmp_path / "snapshot", [(2.0, 1), (3.0, 9)])
    (where / "entries-00000.bin").write_bytes(b"")
    assert asyncio.run(learnt(models, where)).features("f", "bucketed") == ("miles",)


def test_a_version_that_is_let_go_of_has_none(models):
    keys = asyncio.run(learnt(models, None))
    keys.forget("f")
    assert keys.features("f", "bucketed") == ()
