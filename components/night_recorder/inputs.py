"""The files that a night was made from: `inputs.json`. No IO here."""

from __future__ import annotations

from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class InputFile:
    """A file that a night was made from.

    Attributes:
        path: where it was.
        digest: `sha256:` and the digest of its content.
        size: in bytes.
    """

    path: str
    digest: str
    size: int


@dataclass(frozen=True)
class NightInputs:
    """The files that a night was made from."""

    log: tuple[InputFile, ...] = ()
    labels: tuple[InputFile, ...] = ()
