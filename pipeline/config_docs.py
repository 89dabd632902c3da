"""Writes what is generated from the configuration's models: the JSON Schema and the reference.

`python -m tfx_encore.pipeline.config_docs`, in the checkout.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from tfx_encore.pipeline.config import config_schema
from tfx_encore.pipeline.config_errors import number

SCHEMA_PATH = "schemas/encore.schema.json"
REFERENCE_PATH = "docs/configuration.md"

_INTRODUCTION = """\
# Configuration

A project is described by one file, `encore.yaml`. The command looks for it in the current folder;
`--config FILE` or `ENCORE_CONFIG` names another. Paths in it are relative to the file.
`encore init` writes one for your own CSV: see [own-data.md](own-data.md).

It is read as YAML 1.2, strictly: `no` is text and `false` is not, `1e-3` is a number, a key given
twice is an error, `"5"` is no number. A wrong key, type or value stops the command before anything
is run, with exit code 2 and one line that names file, key, value, line and the valid choices:

```
encore: encore.yaml: drift.severity: found 'LOUD'; valid: WARN, BLOCK (line 21)
```

Editors that know the YAML language server check the file as you type, if its first line names the
JSON Schema (`encore schema config` prints it):

```yaml
# yaml-language-server: $schema=encore.schema.json
```

This page is generated from the models that check the file:
`python -m tfx_encore.pipeline.config_docs`.
"""

_WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def schema_text() -> str:
    """The content of schemas/encore.schema.json."""
    return json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"


def reference_text() -> str:
    """The content of docs/configuration.md: every key, its type, default and meaning."""
    schema = config_schema()
    parts = [_INTRODUCTION, *_sections(schema, schema, "")]
    return "\n".join(parts)


def main(root: pathlib.Path) -> None:
    """Writes both files below `root`."""
    (root / SCHEMA_PATH).write_text(schema_text(), encoding="utf-8")
    (root / REFERENCE_PATH).write_text(reference_text(), encoding="utf-8")


def _sections(section: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[str]:
    """A section and, after it, those that it holds."""
    title = f"`{path}`" if path else "The whole file"
    rows = [_row(name, spec, section, schema) for name, spec in section["properties"].items()]
    text = f"{_one_line(section.get('description', ''))}\n\n" if path else ""
    table = "| key | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows)
    yield f"## {title}\n\n{text}{table}\n"
    for name, spec in section["properties"].items():
        for suffix, inner in _inner(spec, schema):
            yield from _sections(inner, schema, f"{path}.{name}{suffix}".lstrip("."))


def _row(name: str, spec: dict[str, Any], section: dict[str, Any], schema: dict[str, Any]) -> str:
    if name in section.get("required", ()):
        default = "required"
    elif "default" in spec and spec["default"] is not None:
        default = f"`{json.dumps(spec['default'], ensure_ascii=False)}`"
    else:
        default = ""
    meaning = spec.get("description") or next(
        (inner.get("description", "") for _, inner in _inner(spec, schema)), ""
    )
    cells = (f"`{name}`", _type(spec, schema), default, _one_line(meaning))
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _type(spec: dict[str, Any], schema: dict[str, Any]) -> str:
    """A type in words."""
    if "anyOf" in spec:
        members = [_type(m, schema) for m in spec["anyOf"] if m.get("type") != "null"]
        return " or ".join(dict.fromkeys(members))
    if "enum" in spec or "const" in spec:
        return ", ".join(f"`{value}`" for value in spec.get("enum", [spec.get("const")]))
    if "$ref" in spec or "properties" in spec:
        return "section"
    kind = spec.get("type")
    if kind == "array":
        return f"list of {_type(spec.get('items', {}), schema)}"
    if kind == "object":
        values = spec.get("additionalProperties")
        inner = _type(values, schema) if isinstance(values, dict) else "anything"
        return f"mapping of names to {inner}"
    bounds = [f"{sign} {number(spec[key])}" for key, sign in _BOUNDS.items() if key in spec]
    pattern = [f"`{spec['pattern']}`"] if "pattern" in spec else []
    return ", ".join([_WORDS.get(kind or "", "anything"), *bounds, *pattern])


def _inner(spec: dict[str, Any], schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Sections inside a key: how the key goes on, and the section's schema."""
    if "$ref" in spec:
        yield "", schema["$defs"][spec["$ref"].rsplit("/", 1)[1]]
    for member in spec.get("anyOf", ()):
        yield from _inner(member, schema)
    if isinstance(spec.get("items"), dict):
        for suffix, inner in _inner(spec["items"], schema):
            yield f"[]{suffix}", inner
    if isinstance(spec.get("additionalProperties"), dict):
        for suffix, inner in _inner(spec["additionalProperties"], schema):
            yield f".NAME{suffix}", inner


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "."))
