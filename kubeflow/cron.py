"""Cron expressions: five fields as people write them, six as Kubeflow reads them. No IO here.

Kubeflow's first field is the second. Its parser takes five fields too, but as second, minute, hour,
day and month, so that the usual `0 3 * * *` would run at any hour's third minute.
"""

from __future__ import annotations

import re

from tfx_encore.schemas.errors import ConfigError

# field -> lowest and highest number, and names that stand for numbers
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    (
        "month", 1, 12,
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    ),
    ("day of the week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)  # fmt: skip
_DESCRIPTORS = {
    "@hourly": "0 0 * * * *",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@weekly": "0 0 0 * * 0",
    "@monthly": "0 0 0 1 * *",
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
}
_PART = re.compile(r"(?P<range>\*|\?|[a-z0-9]+(?:-[a-z0-9]+)?)(?:/(?P<step>[0-9]+))?\Z")
_USUAL, _KUBEFLOW = 5, 6
_SUNDAY = 7


def kubeflow_cron(expression: str) -> str:
    """The six fields that Kubeflow takes.

    Args:
        expression: five fields (minute first), six (second first), or `@daily` and the like.

    Raises:
        ConfigError: it is none of these, or a field is out of its range; names the field.
    """
    text = expression.strip().lower()
    if text.startswith("@"):
        if text not in _DESCRIPTORS:
            raise ConfigError(f"{expression!r}; known are {', '.join(_DESCRIPTORS)}", key="--cron")
        return _DESCRIPTORS[text]
    fields = text.split()
    if len(fields) == _USUAL:
        fields = ["0", *fields]
    if len(fields) != _KUBEFLOW:
        raise ConfigError(
            f"{expression!r} has {len(fields)} fields; write five (minute, hour, day, month, day "
            "of the week), as '0 3 * * *', or six with the second first",
            key="--cron",
        )
    return " ".join(
        _field(value, *description) for value, description in zip(fields, _FIELDS, strict=True)
    )


def _field(value: str, name: str, low: int, high: int, names: tuple[str, ...]) -> str:
    return ",".join(_part(part, name, low, high, names) for part in value.split(","))


def _part(part: str, name: str, low: int, high: int, names: tuple[str, ...]) -> str:
    match = _PART.match(part)
    if match is None:
        raise ConfigError(f"{part!r} is no {name}", key="--cron")
    step = f"/{match['step']}" if match["step"] else ""
    if match["step"] == "0":
        raise ConfigError(f"the step of {part!r} is 0", key="--cron")
    if match["range"] in {"*", "?"}:
        return match["range"] + step
    numbers = [_number(text, name, low, high, names) for text in match["range"].split("-")]
    if len(numbers) > 1 and numbers[0] > numbers[1]:
        raise ConfigError(f"{part!r} ends before it begins", key="--cron")
    return _range(numbers, sunday=high == _SUNDAY) + step


def _number(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> int:
    number = names.index(text) + low if text in names else int(text) if text.isdigit() else -1
    if not low <= number <= high:
        raise ConfigError(f"{text!r} is no {name}: {low} to {high}", key="--cron")
    return number


def _range(numbers: list[int], *, sunday: bool) -> str:
    """A range as Kubeflow writes it, where Sunday is 0 and never 7."""
    if sunday and numbers[-1] == _SUNDAY:
        first = numbers[0]
        if len(numbers) == 1 or first == _SUNDAY:
            return "0"
        return "0" + "".join(f",{day}" for day in range(first, _SUNDAY) if day)
    return "-".join(map(str, numbers))
