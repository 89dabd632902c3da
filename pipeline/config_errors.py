"""What is said when a project file is wrong: one line, with key, value and choices. No IO here."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tfx_encore.schemas.errors import ConfigError

Path = tuple[Any, ...]
_SHOWN = 60  # characters of a value that a message repeats

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "model_type": "a mapping",
    "string_type": "text",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def first_error(
    error: ValidationError,
    model: type[BaseModel],
    document: Mapping[str, Any],
    *,
    source: str,
    lines: Mapping[Path, int],
) -> ConfigError:
    """The most telling of a document's errors, as one line.

    A key that nobody knows comes first: a misspelt key also makes the right one missing.

    Args:
        error: what pydantic found.
        model: the model of the whole document.
        document: what was validated.
        source: the file.
        lines: path -> line in the file.
    """
    details = error.errors(include_url=False)
    unknown = [detail for detail in details if detail["type"] == "extra_forbidden"]
    first = (unknown or details)[0]
    path = _real_path(first, document)
    rivals = [first] if unknown else _rivals(details, path, document)
    path = _real_path(rivals[0], document)
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
    place = f" (line {line})" if line else ""
    key = ".".join(str(part) for part in path) or None
    return ConfigError(f"{_message(rivals, path, model)}{place}", file=source, key=key)


def suggestion(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'fare'? Valid: ...`, for the end of a message."""
    choices = list(valid)
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"; did you mean {near[0]!r}? Valid: " if near else "; valid: "
    return hint + ", ".join(choices)


def keys_of(model: type[BaseModel]) -> list[str]:
    """A model's keys as they are written in the file."""
    return [field.alias or name for name, field in model.model_fields.items()]


def number(value: float) -> str:
    """A bound as a person writes it: 10,000,000, 0.5."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def _real_path(detail: ErrorDetails, document: Any) -> Path:
    """The error's place in the document, without the tags by which pydantic tells unions apart."""
    path: list[Any] = []
    here: Any = document
    last = len(detail["loc"]) - 1
    for index, part in enumerate(detail["loc"]):
        inside = isinstance(here, Mapping) and part in here
        item = isinstance(here, list) and isinstance(part, int)
        if inside or item:
            path.append(part)
            here = here[part]
        elif index == last and detail["type"] == "missing":
            path.append(part)
    return tuple(path)


def _rivals(details: list[ErrorDetails], path: Path, document: Any) -> list[ErrorDetails]:
    """The errors of one place: where a union fits nowhere, those of the member that fits best."""
    below = [
        (real, detail)
        for detail in details
        if (real := _real_path(detail, document))[: len(path)] == path
    ]
    deepest = max((real for real, _ in below), key=len)
    return [detail for real, detail in below if real == deepest]


def _message(rivals: list[ErrorDetails], path: Path, model: type[BaseModel]) -> str:
    first = rivals[0]
    kind = first["type"]
    if kind == "extra_forbidden":
        return f"unknown key{suggestion(str(path[-1]), keys_of(_model_at(model, path[:-1])))}"
    if kind in _EXPECTED:
        wanted = " or ".join(dict.fromkeys(_EXPECTED.get(r["type"], r["msg"]) for r in rivals))
        return f"expected {wanted}, found {_shown(first['input'])}{_hint(first)}"
    return _of_value(kind, first, _shown(first["input"]))


def _of_value(kind: str, detail: ErrorDetails, found: str) -> str:
    """What is wrong with a value of the right type, or with a key that is not there."""
    context = detail.get("ctx", {})
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return f"must be {words} {number(context[name])}, found {found}"
    if kind == "literal_error":
        valid = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return f"found {found}{suggestion(str(detail['input']), valid)}"
    return {
        "missing": "this key is required",
        "string_pattern_mismatch": f"found {found}, which does not match {context.get('pattern')}",
        "value_error": str(context.get("error")),
    }.get(kind, f"{detail['msg']}, found {found}")


def _hint(detail: ErrorDetails) -> str:
    value = detail["input"]
    if value is None:
        return "; give it a value, or remove the key"
    if detail["type"] == "string_type" and isinstance(value, (bool, int, float)):
        return "; quote it to make it text"
    return ""


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel]:
    """The model that holds the keys at `path`."""
    for part in path:
        for name, field in model.model_fields.items():
            if part in (name, field.alias):
                model = nested_model(field.annotation) or model
                break
    return model


def nested_model(annotation: Any) -> type[BaseModel] | None:
    """The first pydantic model inside an annotation such as Optional[X] or tuple[X, ...]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in typing.get_args(annotation):
        found = nested_model(argument)
        if found is not None:
            return found
    return None
