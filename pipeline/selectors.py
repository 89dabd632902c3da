"""Reading a selector from a command line. No IO here."""

from __future__ import annotations

import re
from collections.abc import Collection

from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.records import (
    SelectAll,
    SelectFingerprint,
    SelectKeys,
    Selector,
    SelectSlice,
)

_FORMS = "all, fingerprint=sha256:..., keys=KEY[,KEY...], slice:FEATURE=VALUE[,FEATURE=VALUE...]"


def parse_selector(text: str, features: Collection[str]) -> Selector:
    """Parses `all`, `fingerprint=...`, `keys=...` or `slice:feature=value,...`.

    A comma within a value is escaped with a backslash.

    Args:
        text: the selector.
        features: features that a slice may name.

    Raises:
        ConfigError: none of the forms, a malformed digest or key, or an unknown feature.
    """
    if text == "all":
        return SelectAll()
    if text.startswith("fingerprint="):
        return SelectFingerprint(_hexadecimal(text[12:], r"sha256:[0-9a-f]{64}", "fingerprint"))
    if text.startswith("keys="):
        keys = text[5:].lower().split(",")
        return SelectKeys(tuple(_hexadecimal(key, r"[0-9a-f]{64}", "row key") for key in keys))
    if text.startswith("slice:"):
        return SelectSlice(_features(text[6:], features))
    raise ConfigError(f"--selector {text!r}: not one of {_FORMS}")


def _hexadecimal(text: str, pattern: str, name: str) -> str:
    if not re.fullmatch(pattern, text):
        raise ConfigError(f"--selector: {text!r} is no {name}; expected {pattern}")
    return text


def _features(text: str, known: Collection[str]) -> dict[str, str]:
    pairs = {}
    for part in re.split(r"(?<!\\),", text):
        name, equals, value = part.partition("=")
        if not equals or name not in known:
            valid = ", ".join(sorted(known))
            raise ConfigError(f"--selector: {part!r} is no FEATURE=VALUE; features: {valid}")
        pairs[name] = value.replace("\\,", ",")
    return pairs
