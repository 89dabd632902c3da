"""How numbers, digests and outcomes are said to a person, in HTML and on a terminal. No IO here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timezone

from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.records import (
    Cause,
    SelectAll,
    SelectFingerprint,
    SelectKeys,
    Selector,
    SelectSlice,
)

NOTHING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_TYPE_PREFIXES = ("feature:", "slice:", "label:", "prediction:")

MARKS = {
    Outcome.OK: "✓",
    Outcome.WARN: "!",
    Outcome.BLOCK: "✕",
    Outcome.INSUFFICIENT_DATA: "○",
}
OUTCOMES = {
    Outcome.OK: "passed",
    Outcome.WARN: "warned",
    Outcome.BLOCK: "blocked",
    Outcome.INSUFFICIENT_DATA: "too little data",
}
_MEASURES = {
    "jensen_shannon": "Jensen-Shannon",
    "l_infinity": "L∞",
    "psi": "PSI",
    "auc": "AUC",
    "missing": "missing values",
    "unseen": "unseen categories",
}
_GATES = {"drift": "Drift", "sliced_evaluation": "Sliced evaluation"}
_CAUSES = {
    Cause.MODEL_PUSHED: "a new version went live",
    Cause.ROLLED_BACK: "a label moved back",
    Cause.DATA_DRIFT: "the data drifted",
    Cause.MANUAL: "withdrawn by hand",
    Cause.ERASURE: "erased on request",
}


def number(value: float | None, digits: int = 3) -> str:
    """Returns `value` with `digits` significant digits; all integer digits are kept.

    `0.03124` gives `0.0312`, `1234.5` gives `1,234`, None and NaN give a dash.
    """
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -5 or magnitude > 14:
        return f"{value:.{digits - 1}e}".replace("-", _MINUS)
    text = f"{value:,.{max(0, digits - 1 - magnitude)}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", _MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """Returns `number(value)` with its sign always written, as a difference is."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 else text


def decimal(value: float | None, places: int | None = None, *, sign: bool = False) -> str:
    """Returns `value` with fixed decimals, so that a column of them lines up.

    Without `places` there are three, and a value too small or too large for them is written by its
    significant digits instead.
    """
    if value is None or not math.isfinite(value):
        return number(value)
    if places is None:
        if 0 < abs(value) < 0.0005 or abs(value) >= 100:
            return signed(value, 2) if sign else number(value, 2)
        places = 3
    rounded = round(value, places) + 0.0  # + 0.0 makes -0.0 plain
    text = f"{rounded:+,.{places}f}" if sign and rounded else f"{rounded:,.{places}f}"
    return text.replace("-", _MINUS)


def places(values: Iterable[float | None]) -> int:
    """Returns how many decimals give the largest of `values` three significant digits or more."""
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    if largest == 0 or largest >= 0.1:
        return 3 if largest < 10 else 1
    return min(9, 2 - math.floor(math.log10(largest)))


def interval(
    bounds: tuple[float, float] | None, places: int | None = None, *, sign: bool = False
) -> str:
    """Returns `low to high` by `decimal`; with `sign`, as differences are written."""
    if bounds is None:
        return NOTHING
    low, high = (decimal(bound, places, sign=sign) for bound in bounds)
    return f"{low} to {high}"


def percent(share: float | None) -> str:
    """Returns a share in [0, 1] as a percentage with three significant digits at most."""
    if share is None or math.isnan(share):
        return NOTHING
    if 0 < share < 0.0005:
        return "<0.1%"
    return f"{share * 100:.1f}".removesuffix(".0").replace("-", _MINUS) + "%"


def p_value(value: float | None) -> str:
    """Returns a p-value; below one in a thousand only that it is."""
    if value is None:
        return NOTHING
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def count(value: int | None) -> str:
    """Returns an integer with thousands separated."""
    return NOTHING if value is None else f"{value:,}".replace("-", _MINUS)


def size(bytes_: int | None) -> str:
    """Returns a number of bytes in B, kB, MB or GB (powers of 1,000)."""
    if bytes_ is None:
        return NOTHING
    scaled, unit = float(bytes_), "B"
    for larger in ("kB", "MB", "GB"):
        if scaled < 1000:
            break
        scaled, unit = scaled / 1000, larger
    return f"{number(scaled)} {unit}"


def duration(seconds: float | None) -> str:
    """Returns a time span in seconds as `0.4 s`, `12 s` or `2 min 5 s`."""
    if seconds is None:
        return NOTHING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def moment(rfc3339: str | None) -> str:
    """Returns an RFC 3339 time in UTC as `20 Nov 2026, 18:50 UTC`; other text unchanged."""
    if not rfc3339:
        return NOTHING
    try:
        parsed = datetime.fromisoformat(rfc3339.replace("Z", "+00:00"))
    except ValueError:
        return rfc3339
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)
    return aware.astimezone(timezone.utc).strftime("%-d %b %Y, %H:%M UTC")


def digest(text: str | None, length: int = 12) -> str:
    """Returns the first `length` characters of a digest, without its `sha256:`."""
    return NOTHING if not text else text.rpartition(":")[2][:length]


def subject(text: str) -> str:
    """Returns what was checked without its type: `feature:fare` gives `fare`."""
    for prefix in _TYPE_PREFIXES:
        if text.startswith(prefix):
            return text.removeprefix(prefix)
    return text


def measure(name: str) -> str:
    """Returns a measure's name as people write it: `jensen_shannon` gives `Jensen-Shannon`."""
    return _MEASURES.get(name, name.replace("_", " "))


def heading(text: str) -> str:
    """Returns `text` with its first letter in upper case, the others as they are."""
    return text[:1].upper() + text[1:]


def gate(name: str) -> str:
    """Returns a gate's name as a heading."""
    return _GATES.get(name) or name.replace("_", " ").strip().capitalize() or name


def cause(value: Cause) -> str:
    """Returns why answers were withdrawn, as a clause."""
    return _CAUSES[value]


def selector(value: Selector) -> str:
    """Returns which answers a record withdraws."""
    if isinstance(value, SelectAll):
        return "every answer of the model"
    if isinstance(value, SelectFingerprint):
        return f"answers of fingerprint {digest(value.fingerprint)}"
    if isinstance(value, SelectSlice):
        return "answers where " + " and ".join(f"{k} = {v}" for k, v in value.features.items())
    assert isinstance(value, SelectKeys)
    return f"{len(value.keys):,} row key{'' if len(value.keys) == 1 else 's'}"
