"""The text files that `encore init` writes. No IO but reading the templates."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Iterable, Mapping
from string import Template

from tfx_encore.pipeline.config import FILE_NAME, config_schema
from tfx_encore.pipeline.csv_profile import ColumnProfile
from tfx_encore.pipeline.init_columns import Roles, plain, slices
from tfx_encore.pipeline.yaml_reader import read_yaml

SCHEMA_FILE, MODEL_FILE, EDITOR_FILE = "schema.pbtxt", "model.py", "encore.schema.json"
_EPOCHS, _BATCH, _LEAST_STEPS, _MOST_STEPS = 10, 128, 300, 3000


def text_files(
    profiles: Mapping[str, ColumnProfile], roles: Roles, *, model: str, csv: str, span: int
) -> dict[str, str]:
    """File name -> content, the schema left out.

    Args:
        profiles: the columns of the user's CSV.
        roles: what becomes of each.
        model: the model's name.
        csv: name of the user's file, for comments.
        span: number of the span that the data becomes.
    """
    label = roles.label
    key = label_key(profiles, label.column)
    rows = profiles[label.column].rows
    steps = round(rows * _EPOCHS * 2 / 3 / _BATCH, -1)
    return {
        FILE_NAME: _fill(
            "encore.yaml.tmpl",
            model=model,
            csv=_comment(csv),
            next_span=str(span + 1),
            train_steps=str(int(min(max(steps, _LEAST_STEPS), _MOST_STEPS))),
            label=_yaml(label.column),
            ignored=_yaml_list(c for c in roles.left_out if profiles[c].distinct > 1),
            label_key=_yaml(key),
            slices="\n".join(f"    - {_yaml_list(names)}" for names in _cuts(profiles, roles)),
        ),
        MODEL_FILE: _fill(
            "model.py.tmpl",
            model=model,
            csv=_comment(csv),
            label=_comment(label.column),
            positive=_comment(str(label.positive)),
            label_literal=_python(label.column),
            positive_literal=_python(label.positive),
            label_key_literal=_python(key),
            numbers=_tuple(roles.numbers),
            categories=_tuple(roles.categories),
            left_out=_left_out(roles),
        ),
        EDITOR_FILE: json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n",
        ".gitignore": _fill("gitignore.tmpl"),
    }


def label_key(profiles: Mapping[str, ColumnProfile], label: str) -> str:
    """A name for the label as 0 or 1 that no column has."""
    name = f"{plain(label)}_label"
    while name in profiles:
        name += "_"
    return name


def _cuts(profiles: Mapping[str, ColumnProfile], roles: Roles) -> list[tuple[str, ...]]:
    return [(), *((column,) for column in slices(profiles, roles))]


def _fill(name: str, **values: str) -> str:
    folder = importlib.resources.files("tfx_encore.pipeline") / "templates"
    return Template((folder / name).read_text(encoding="utf-8")).substitute(values)


def _python(value: object) -> str:
    """A literal in double quotes where it is text, as the formatter would write it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _tuple(names: Iterable[str]) -> str:
    lines = [f"    {_python(name)},\n" for name in names]
    return f"(\n{''.join(lines)})" if lines else "()"


def _left_out(roles: Roles) -> str:
    reasons = dict(roles.left_out) | dict.fromkeys(roles.unknown, "no value at all")
    lines = [f"#   {_comment(name)}: {reason}\n" for name, reason in reasons.items()]
    return "".join(["# Left out:\n", *lines]) if lines else ""


def _comment(text: str) -> str:
    """Text that ends neither a comment nor a docstring."""
    return re.sub(r'[\x00-\x1f\\"]', "?", text)


def _yaml(text: str) -> str:
    """A YAML scalar: plain where it reads the same everywhere."""
    simple = re.fullmatch(r"[A-Za-z_][\w-]*", text, flags=re.ASCII)
    old = text.lower() in ("yes", "no", "on", "off", "y", "n", "true", "false", "null")
    if simple and not old and read_yaml(text).content == text:
        return text
    return json.dumps(text, ensure_ascii=False)


def _yaml_list(texts: Iterable[str]) -> str:
    return f"[{', '.join(_yaml(text) for text in texts)}]"
