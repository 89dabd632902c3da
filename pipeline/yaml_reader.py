"""Reading YAML as version 1.2 has it, strictly: what editors show is what we read. No IO here.

PyYAML follows version 1.1, where `no` is false, `1e-3` is text, `12:30` is 750, and a key that is
given twice silently wins the second time. All four have cost somebody a day.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

Path = tuple[Any, ...]


@dataclass(frozen=True)
class Document:
    """A document with its places.

    Attributes:
        content: mappings with text keys, lists, text, numbers, true, false or None.
        lines: path of keys and indices -> the line where its key or item stands, from 1.
    """

    content: Any
    lines: dict[Path, int]


class YamlError(ValueError):
    """The text is no YAML that we take; the message names the line."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with the core schema of YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (_TEXT, _MERGE):
                raise YamlError(f"line {line}: the key {_shown(key)} is no text; quote it")
            if key.value in seen and key.tag == _TEXT:
                raise YamlError(
                    f"line {line}: the key {key.value!r} is given twice, first in line "
                    f"{seen[key.value]}; remove one"
                )
            seen[key.value] = line
        return super().construct_mapping(node, deep=deep)


_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
_CORE = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)
_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}",
        re.compile(f"^(?:{_pattern})$"),
        ["" if first == "\0" else first for first in _first],
    )


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    """A whole number; version 1.1 takes 010 for 8."""
    return int(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)


def read_yaml(text: str) -> Document:
    """Reads one YAML document.

    Raises:
        YamlError: the text is not YAML, repeats a key, or has a key that is no text.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Document(None, {})
        return Document(loader.construct_document(node), dict(_lines(node, ())))
    except yaml.MarkedYAMLError as error:
        raise YamlError(_located(error)) from error
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise YamlError("nested too deeply, or an alias refers to itself") from error


def _lines(node: yaml.Node, path: Path) -> Any:
    """Yields (path, line) of every key and list item below a node."""
    if isinstance(node, yaml.MappingNode):
        pairs = [((*path, key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        pairs = [((*path, index), item, item) for index, item in enumerate(node.value)]
    else:
        return
    for inner, place, value in pairs:
        yield inner, place.start_mark.line + 1
        yield from _lines(value, inner)


def _located(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = error.problem or error.context or "not YAML"
    hint = "; indent with spaces, not tabs" if "'\\t'" in problem else ""
    return f"{place}{' '.join(problem.split())}{hint}"


def _shown(key: yaml.Node) -> str:
    return repr(key.value) if isinstance(key, yaml.ScalarNode) else "(a list or mapping)"
