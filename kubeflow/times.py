"""Times as people write them, as the API takes them. No IO here."""

from __future__ import annotations

import datetime as dt

from tfx_encore.schemas.errors import ConfigError


def rfc3339(text: str, key: str) -> str:
    """A time in UTC as 2026-11-30T03:00:00Z; "" stays.

    Args:
        text: a day, or a time; UTC unless it says otherwise.
        key: the option, for messages.

    Raises:
        ConfigError: it is no time.
    """
    if not text:
        return ""
    try:
        time = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise ConfigError(f"{text!r} is no time; write 2026-11-30T03:00:00Z", key=key) from error
    if time.tzinfo is None:
        time = time.replace(tzinfo=dt.timezone.utc)
    return time.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
