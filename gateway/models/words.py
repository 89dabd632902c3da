"""Texts that a SavedModel knows: its vocabularies' first words. Needs protobuf, not TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

_STRING = 7  # tensorflow.DataType
_MOST = 64
_OF_EACH = 8
_MAX_FILE_BYTES = 16 * 2**20


def words_of(meta: Any, path: str) -> tuple[bytes, ...]:
    """Returns some texts of a MetaGraphDef's constants and of its asset files.

    A row that is made up of them goes other ways through a model than one that no vocabulary holds.
    """
    words: dict[bytes, None] = {}
    for word in (*_of_graph(meta), *_of_assets(Path(path) / "assets")):
        if len(words) < _MOST:
            words[word] = None
    return tuple(words)


def _of_graph(meta: Any) -> Iterator[bytes]:
    functions = meta.graph_def.library.function
    for nodes in (meta.graph_def.node, *(function.node_def for function in functions)):
        for node in nodes:
            value = node.attr["value"].tensor if node.op == "Const" else None
            if value is not None and value.dtype == _STRING:
                yield from value.string_val[:_OF_EACH]


def _of_assets(folder: Path) -> Iterator[bytes]:
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.stat().st_size <= _MAX_FILE_BYTES:
            with file.open("rb") as lines:
                for _, line in zip(range(_OF_EACH), lines, strict=False):
                    yield line.rstrip(b"\r\n")
